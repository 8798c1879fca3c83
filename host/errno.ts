/** The name of a system error (`ENOENT`, `EACCES`, ...), or undefined when `error` is none. Node: `error.code`. */
export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
