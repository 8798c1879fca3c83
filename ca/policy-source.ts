import type { Clock } from '../host/clock.ts';
import type { Log } from '../host/log.ts';
import type { PolicyStatus as PolicyStatusMessage } from '../proto/gen/kedge/v1/admin.ts';
import type { CaConfig } from './config.ts';
import { fallbackTerms } from './issue/policy-defaults.ts';
import { Policy } from './issue/policy.ts';
import type { PolicyStatus } from './issue/policy-file.ts';

/** The policy in force, from a file or built in. */
export interface PolicySource {
  readonly current: Policy;
  /** How it is, for operators. */
  message(): PolicyStatusMessage;
  /** Calls `listener` after each change of the file's status. One listener. */
  onChange(listener: (status: PolicyStatus) => void): void;
  /** Follows the file until the signal aborts. */
  follow(signal: AbortSignal): Promise<void>;
}

/** Opens the policy that the configuration names. Throws `config_invalid`, `file_unreadable`. */
export async function openPolicy(config: CaConfig, clock: Clock, log: Log): Promise<PolicySource> {
  const bounds = { maxTtlMs: config.svid.ttlMs, backdateMs: config.svid.backdateMs };
  if (config.policyFile === null) {
    const policy = new Policy({ defaults: fallbackTerms(bounds), rules: [], deny: [] });
    const loadedAtMs = BigInt(clock.now());
    return {
      current: policy,
      message: () => ({ file: '', loadedAtMs, error: '' }),
      onChange: () => {},
      follow: () => Promise.resolve(),
    };
  }
  // Reading YAML costs a start some 40 ms: only whoever has a policy file pays.
  const { PolicyFile } = await import('./issue/policy-file.ts');
  let listener: (status: PolicyStatus) => void = () => {};
  const file = await PolicyFile.load({
    path: config.policyFile,
    bounds,
    clock,
    log,
    onChange: (status) => listener(status),
  });
  return {
    get current() {
      return file.current;
    },
    message: () => ({
      file: file.status.file,
      loadedAtMs: BigInt(file.status.loadedAtMs),
      error: file.status.error ?? '',
    }),
    onChange(next) {
      listener = next;
    },
    follow: (signal) => file.follow(signal),
  };
}
