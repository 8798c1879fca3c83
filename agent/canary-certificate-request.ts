/** Content types of a TLS record (RFC 5246 section 6.2.1). */
const HANDSHAKE = 22;
/** Handshake type of a CertificateRequest (RFC 5246 section 7.4). */
const CERTIFICATE_REQUEST = 13;
const RECORD_HEADER_BYTES = 5;
const MESSAGE_HEADER_BYTES = 4;

/**
 * The authorities that a TLS 1.2 server names in its CertificateRequest: the Name (DER) of each trust anchor that it
 * would accept a client certificate under (RFC 5246 section 7.4.4). `received` is all that the server sent, from its
 * first byte.
 *
 * Null when there is no such message: the server asks for no certificate, speaks TLS 1.3, where the message is
 * encrypted, or sent something that is not TLS. Copies, none longer than the message. Never throws.
 *
 * Nothing is decided on it alone: the names are not authenticated before the handshake is complete.
 */
export function certificateAuthorities(received: Uint8Array): readonly Uint8Array[] | null {
  for (const message of handshakeMessages(received)) {
    if (message.type === CERTIFICATE_REQUEST) return namesOf(message.body);
  }
  return null;
}

interface HandshakeMessage {
  readonly type: number;
  readonly body: Uint8Array;
}

/** The whole messages of the clear-text handshake, up to the first record of another type. */
function* handshakeMessages(received: Uint8Array): Generator<HandshakeMessage> {
  const flight = clearTextFlight(received);
  let at = 0;
  while (at + MESSAGE_HEADER_BYTES <= flight.length) {
    const start = at + MESSAGE_HEADER_BYTES;
    const end = start + flight.readUIntBE(at + 1, 3);
    if (end > flight.length) return;
    yield { type: flight.readUInt8(at), body: flight.subarray(start, end) };
    at = end;
  }
}

/** A message may be spread over records, and a record may hold several: their contents, joined. */
function clearTextFlight(received: Uint8Array): Buffer {
  const input = Buffer.from(received.buffer, received.byteOffset, received.byteLength);
  const fragments: Buffer[] = [];
  let at = 0;
  while (at + RECORD_HEADER_BYTES <= input.length && input.readUInt8(at) === HANDSHAKE) {
    const start = at + RECORD_HEADER_BYTES;
    const end = start + input.readUInt16BE(at + 3);
    if (end > input.length) break;
    fragments.push(input.subarray(start, end));
    at = end;
  }
  return Buffer.concat(fragments);
}

/** Three vectors fill the message: certificate types, signature algorithms, names. */
function namesOf(body: Uint8Array): readonly Uint8Array[] | null {
  const input = Buffer.from(body);
  const typesEnd = vectorEnd(input, 0, 1);
  const algorithmsEnd = typesEnd === null ? null : vectorEnd(input, typesEnd, 2);
  if (algorithmsEnd === null || vectorEnd(input, algorithmsEnd, 2) !== input.length) return null;
  const names: Uint8Array[] = [];
  for (let at = algorithmsEnd + 2; at < input.length; ) {
    const end = vectorEnd(input, at, 2);
    if (end === null) return null;
    names.push(Uint8Array.from(input.subarray(at + 2, end)));
    at = end;
  }
  return names;
}

/** Where the vector at `at` ends, whose length is a number of `lengthBytes` bytes; null = it does not fit. */
function vectorEnd(input: Buffer, at: number, lengthBytes: 1 | 2): number | null {
  const start = at + lengthBytes;
  if (start > input.length) return null;
  const end = start + input.readUIntBE(at, lengthBytes);
  return end > input.length ? null : end;
}
