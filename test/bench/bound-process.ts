/** The bound as CPU time, on the server's core: at each SIGUSR2 one round, answered with a JSON line. */
import { boundInputs, boundSigner, boundStep } from './bound.ts';
import { freshCsrs } from './workload-file.ts';

const STEPS = 4_000;
const inputs = boundInputs(freshCsrs(STEPS));
const signer = boundSigner();

process.on('SIGUSR2', () => {
  const start = process.cpuUsage();
  for (const input of inputs) boundStep(input, signer);
  const { user, system } = process.cpuUsage(start);
  console.log(JSON.stringify({ perStep: (user + system) / STEPS }));
});
process.on('SIGTERM', () => process.exit(0));
console.log(JSON.stringify({ ready: true }));
setInterval(() => undefined, 1 << 30);
