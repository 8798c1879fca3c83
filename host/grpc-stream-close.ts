import type { Http2Stream } from 'node:http2';
import type { ServerInterceptingCall } from '@grpc/grpc-js';

type NextCall = ConstructorParameters<typeof ServerInterceptingCall>[0];

/**
 * Tells once when the HTTP/2 stream of a call is closed on both sides, and at once where it is. Only then is all of the
 * call gone: grpc-js tells of its end (`onCancel`) as soon as its status is written, and holds what has come of a
 * message until the client has ended its side too; and a client brings its status about by a deadline of a millisecond.
 */
export function onceStreamCloses(call: NextCall, action: () => void): void {
  const stream = streamOf(call);
  if (stream.destroyed) action();
  else stream.once('close', action);
}

/** Whether it is closed. */
export function isStreamClosed(call: NextCall): boolean {
  return streamOf(call).destroyed;
}

/** A field of grpc-js's own class, which its types do not show; tests of both servers rest on its being there. */
function streamOf(call: NextCall): Http2Stream {
  return (call as unknown as { readonly stream: Http2Stream }).stream;
}
