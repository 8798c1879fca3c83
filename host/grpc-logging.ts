import { logVerbosity, setLogVerbosity } from '@grpc/grpc-js';

/**
 * Silences grpc-js's own log on standard error, whatever GRPC_VERBOSITY says.
 *
 * It prints the metadata that it cannot take, tokens included, at the wish of whoever sends it. What matters of a
 * failed call reaches our log through its error.
 */
export function silenceGrpcLog(): void {
  setLogVerbosity(logVerbosity.NONE);
}
