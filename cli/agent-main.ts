import { AGENT_COMMANDS, VERSION_COMMAND } from './agent-command-table.ts';
import { runProcess } from './process-terminal.ts';

/** The program of a pod: `kedge` with the commands of the agent alone, bundled into one lean file. */
void runProcess([...AGENT_COMMANDS, VERSION_COMMAND]);
