/**
 * Lets loops sleep until something happens or a time has passed, without missing what happens while they work.
 *
 * A loop notes `generation`, looks at the world, and sleeps with that number: a `wake` in between ends the sleep at
 * once. Nothing is kept per past sleep, however long the process lives.
 */
export class Wakeup {
  #generation = 0;
  readonly #sleepers = new Set<() => void>();

  /** How many times {@link Wakeup.wake} was called. */
  get generation(): number {
    return this.#generation;
  }

  /** Ends every sleep under way. */
  wake(): void {
    this.#generation += 1;
    for (const end of this.#sleepers) end();
  }

  /**
   * Runs `sleep` with a signal that ends it. Resolves to true when woken since `seenGeneration`, to false when
   * the sleep ended by itself. Rejects with the reason of `signal`, or with what `sleep` rejects with.
   */
  async sleep(
    seenGeneration: number,
    sleep: (signal: AbortSignal) => Promise<void>,
    signal: AbortSignal,
  ): Promise<boolean> {
    signal.throwIfAborted();
    if (this.#generation !== seenGeneration) return true;
    const end = new AbortController();
    const stop = (): void => end.abort();
    this.#sleepers.add(stop);
    signal.addEventListener('abort', stop, { once: true });
    try {
      await sleep(end.signal);
      return this.#generation !== seenGeneration;
    } catch (error) {
      signal.throwIfAborted();
      if (this.#generation !== seenGeneration) return true;
      throw error;
    } finally {
      this.#sleepers.delete(stop);
      signal.removeEventListener('abort', stop);
    }
  }
}
