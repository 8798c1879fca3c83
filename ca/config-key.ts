/** One key of the configuration file, for its documentation and for the command line. */
export interface ConfigKey {
  /** Dotted, as messages name it. */
  readonly key: string;
  /** What a value is: `duration`, `address`, `path`, `text`, `number`, `yes or no`, or the allowed words. */
  readonly value: string;
  /** As written in a file; what it follows from where it is not fixed. */
  readonly default: string;
  readonly means: string;
  /** The option of `kedge ca` that sets it, without dashes. */
  readonly flag?: string;
}
