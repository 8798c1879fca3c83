/**
 * What Node is told before the program of an agent. Node loads 150 public roots, 2 MB, as soon as TLS is used at all,
 * unless it is to take OpenSSL's; an agent trusts neither.
 */
export const AGENT_NODE_OPTIONS: readonly string[] = ['--use-openssl-ca'];
