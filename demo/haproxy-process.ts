/**
 * Runs one HAProxy for the demo and ends with it, and it with us: whatever happens to the demo, none stays behind.
 *
 * `node demo/haproxy-process.ts <haproxy> <configuration>`.
 */
import { spawn } from 'node:child_process';

const [program = '', configuration = ''] = process.argv.slice(2);
const haproxy = spawn(program, ['-db', '-f', configuration], { stdio: ['ignore', 'inherit', 'inherit'] });
haproxy.on('error', (error) => {
  console.error(`HAProxy cannot be started: ${error.message}`);
  process.exit(1);
});
haproxy.on('exit', (code, signal) => process.exit(code ?? (signal === 'SIGTERM' ? 0 : 1)));
for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, () => haproxy.kill('SIGTERM'));
process.on('exit', () => haproxy.kill('SIGKILL'));
