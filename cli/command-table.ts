import { AGENT_COMMANDS, VERSION_COMMAND } from './agent-command-table.ts';
import type { CommandEntry } from './command.ts';

/** Every command of `kedge`, in the order of its help. */
export const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'ca',
    summary: 'run the identity CA',
    load: async () => (await import('./command/ca.ts')).caCommand,
  },
  ...AGENT_COMMANDS,
  {
    name: 'inject',
    summary: 'give the pods in manifests their agent, as the webhook would',
    load: async () => (await import('./command/inject.ts')).injectCommand,
  },
  {
    name: 'token',
    summary: 'mint a development token, with the claims of a Kubernetes bound ServiceAccount token',
    load: async () => (await import('./command/token.ts')).tokenCommand,
  },
  {
    name: 'svid fetch',
    summary: 'fetch the X.509-SVID of this workload from the Workload API',
    load: async () => (await import('./command/svid-fetch.ts')).svidFetchCommand,
  },
  {
    name: 'svid inspect',
    summary: 'show what is in each certificate of a file',
    load: async () => (await import('./command/svid-inspect.ts')).svidInspectCommand,
  },
  {
    name: 'svid verify',
    summary: 'check an X.509-SVID chain against a trust bundle, by every rule of the standard',
    load: async () => (await import('./command/svid-verify.ts')).svidVerifyCommand,
  },
  {
    name: 'bundle show',
    summary: 'show a trust bundle: of a running CA, of a Workload API, or in a file',
    load: async () => (await import('./command/bundle-show.ts')).bundleShowCommand,
  },
  {
    name: 'status',
    summary: 'show the state of a running CA: anchors, issuers, and which workload instances follow',
    load: async () => (await import('./command/status.ts')).statusCommand,
  },
  {
    name: 'keys rewrap',
    summary: 'seal the keys in the trust state of a running CA under its present sealing key',
    load: async () => (await import('./command/keys-rewrap.ts')).keysRewrapCommand,
  },
  {
    name: 'rotate start',
    summary: 'begin to replace the trust anchor, while traffic flows',
    load: async () => (await import('./command/rotate.ts')).rotateStartCommand,
  },
  {
    name: 'rotate status',
    summary: 'show where the rotation of the trust anchor stands, and for whom it waits',
    load: async () => (await import('./command/rotate.ts')).rotateStatusCommand,
  },
  {
    name: 'rotate plan',
    summary: 'say which instances would fail if the next step of the rotation were taken now',
    load: async () => (await import('./command/rotate.ts')).rotatePlanCommand,
  },
  {
    name: 'rotate pause',
    summary: 'stop the rotation where it stands, until it is resumed',
    load: async () => (await import('./command/rotate.ts')).rotatePauseCommand,
  },
  {
    name: 'rotate resume',
    summary: 'let a paused rotation go on',
    load: async () => (await import('./command/rotate.ts')).rotateResumeCommand,
  },
  {
    name: 'rotate abort',
    summary: 'go back to the trust anchor that the rotation began with',
    load: async () => (await import('./command/rotate.ts')).rotateAbortCommand,
  },
  {
    name: 'rotate excuse',
    summary: 'do not wait for one instance, by name',
    load: async () => (await import('./command/rotate.ts')).rotateExcuseCommand,
  },
  {
    name: 'rotate history',
    summary: 'list the rotations that ended, with who began them, why, and who was cut off',
    load: async () => (await import('./command/rotate.ts')).rotateHistoryCommand,
  },
  {
    name: 'incident anchor-compromised',
    summary: 'replace a trust anchor whose key is in wrong hands, by a deadline',
    load: async () => (await import('./command/incident.ts')).incidentAnchorCommand,
  },
  {
    name: 'incident issuer-compromised',
    summary: 'replace an issuer whose key is in wrong hands, at once',
    load: async () => (await import('./command/incident.ts')).incidentIssuerCommand,
  },
  {
    name: 'audit verify',
    summary: 'check that no line of an audit log was altered or removed',
    load: async () => (await import('./command/audit-verify.ts')).auditVerifyCommand,
  },
  {
    name: 'install',
    summary: 'print the Kubernetes manifests of the identity plane',
    load: async () => (await import('./command/install.ts')).installCommand,
  },
  {
    name: 'check',
    summary: 'check that a cluster can run Kedge, or that the one that runs there is well',
    load: async () => (await import('./command/check.ts')).checkCommand,
  },
  {
    name: 'identity',
    summary: 'show the X.509-SVID and the trust bundle that the agent of a pod serves now',
    load: async () => (await import('./command/identity.ts')).identityCommand,
  },
  VERSION_COMMAND,
];
