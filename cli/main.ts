import { COMMANDS } from './command-table.ts';
import { runProcess } from './process-terminal.ts';

/** The program `kedge`: every command. */
void runProcess(COMMANDS);
