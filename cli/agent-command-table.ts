import type { CommandEntry } from './command.ts';

/** The commands that a pod needs: those of `kedge agent`. They load nothing of the CA. */
export const AGENT_COMMANDS: readonly CommandEntry[] = [
  {
    name: 'agent',
    summary: 'run the agent of one workload: token to X.509-SVID, rotation, and the feeds to its proxy',
    load: async () => (await import('./command/agent.ts')).agentCommand,
  },
  {
    name: 'agent healthcheck',
    summary: 'ask whether an agent serves an identity now',
    load: async () => (await import('./command/agent-healthcheck.ts')).agentHealthcheckCommand,
  },
  {
    name: 'agent status',
    summary: 'show the state of an agent: its SVID and bundle, and which consumers have them',
    load: async () => (await import('./command/agent-status.ts')).agentStatusCommand,
  },
  {
    name: 'agent wait',
    summary: 'wait until an agent serves an identity',
    load: async () => (await import('./command/agent-wait.ts')).agentWaitCommand,
  },
];

/** `kedge version`, which every program of Kedge has. */
export const VERSION_COMMAND: CommandEntry = {
  name: 'version',
  summary: 'print the version of kedge and of the Node that runs it',
  load: async () => (await import('./command/version.ts')).versionCommand,
};
