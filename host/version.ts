/** The version of Kedge; equal to the one in package.json, which a test holds. */
export const KEDGE_VERSION = '0.1.0';
