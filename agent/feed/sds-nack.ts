/** Characters of a client's own words that reach the log. */
const MAX_REASON = 200;
/** What is looked at; more would only be cut away. */
const MAX_READ = 4096;

/** A PEM block, to its end or to the end of the text, and any run of characters that can hold key material. */
const MATERIAL = /-----BEGIN[\s\S]*?(?:-----END[^-]*-----|$)|[A-Za-z0-9+/=_-]{32,}/g;

/**
 * Why an Envoy refused a secret, fit for a log: one line, bounded, without material. Some of Envoy's messages print
 * the whole of what they refuse, the private key included.
 */
export function nackReasonOf(message: string): string {
  const reason = message
    .slice(0, MAX_READ)
    .replace(MATERIAL, '[...]')
    .replace(/[^!-~]+/g, ' ')
    .trim();
  const bounded = reason.length > MAX_REASON ? `${reason.slice(0, MAX_REASON)}...` : reason;
  // Through bytes, so that the short reason does not keep the message alive.
  return bounded === '' ? 'no reason given' : Buffer.from(bounded, 'latin1').toString('latin1');
}
