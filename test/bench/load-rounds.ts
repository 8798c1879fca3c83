/** When a load process loads, and how much. */
export interface LoadTimes {
  /** Calls under way at once. */
  readonly inFlight: number;
  /** Before each measurement, milliseconds. */
  readonly warmUpMs: number;
  readonly measureMs: number;
  /** True: a round at each SIGUSR2, by the same process. False or absent: one round, then it ends. */
  readonly onSignal?: boolean;
}

/**
 * What a load process does: in each round as many calls as are answered in time, `inFlight` under way at once. Prints
 * JSON lines: `ready` where rounds come by signal; `measuring` when the warm-up of a round is over; `measured` with
 * `count`, `elapsedMs` and what `more` gives.
 */
export async function loadRounds(
  { inFlight, warmUpMs, measureMs, onSignal = false }: LoadTimes,
  call: (worker: number) => Promise<void>,
  more: () => object = () => ({}),
): Promise<void> {
  const print = (event: string, figures: object = {}): void =>
    console.log(JSON.stringify({ event, ...figures }));
  const run = async (ms: number): Promise<{ readonly count: number; readonly elapsedMs: number }> => {
    let count = 0;
    const start = performance.now();
    const worker = async (_: unknown, index: number): Promise<void> => {
      while (performance.now() - start < ms) {
        await call(index);
        count += 1;
      }
    };
    await Promise.all(Array.from({ length: inFlight }, worker));
    return { count, elapsedMs: performance.now() - start };
  };
  const round = async (): Promise<void> => {
    await run(warmUpMs);
    print('measuring');
    print('measured', { ...(await run(measureMs)), ...more() });
  };
  if (!onSignal) {
    await round();
    process.exit(0);
  }
  process.on('SIGUSR2', () => void round());
  process.on('SIGTERM', () => process.exit(0));
  print('ready');
  setInterval(() => undefined, 1 << 30);
}
