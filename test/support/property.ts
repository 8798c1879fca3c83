import fc from 'fast-check';

/**
 * Runs a property with a seed that the failure report names. `KEDGE_FC_SEED` repeats a run, `KEDGE_FC_RUNS`
 * multiplies how many inputs each property gets (the fuzz tier sets it).
 */
export function checkProperty<T>(property: fc.IProperty<T>, numRuns = 200): void {
  fc.assert(property, parameters(numRuns));
}

/** The same for a property that answers later. */
export async function checkAsyncProperty<T>(property: fc.IAsyncProperty<T>, numRuns = 200): Promise<void> {
  await fc.assert(property, parameters(numRuns));
}

function parameters(numRuns: number): { numRuns: number; seed?: number } {
  const factor = Number(process.env['KEDGE_FC_RUNS'] ?? '1');
  const seed = process.env['KEDGE_FC_SEED'];
  return { numRuns: Math.ceil(numRuns * factor), ...(seed === undefined ? {} : { seed: Number(seed) }) };
}
