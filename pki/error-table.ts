/**
 * Every error code of Kedge, in one table. `docs/errors.md` is held against it by a test.
 *
 * `status` is the gRPC status that a refusal carries on the wire. `exposure` says whether message and hint may
 * leave the process: of an `internal` error the caller sees only an incident id, the rest is in the log. `means`
 * is one sentence for an operator.
 */
export type GrpcStatusName =
  | 'INVALID_ARGUMENT'
  | 'UNAUTHENTICATED'
  | 'PERMISSION_DENIED'
  | 'FAILED_PRECONDITION'
  | 'RESOURCE_EXHAUSTED'
  | 'UNAVAILABLE'
  | 'UNIMPLEMENTED'
  | 'ABORTED'
  | 'NOT_FOUND'
  | 'INTERNAL';

/** One row of the table. */
export interface ErrorSpec {
  readonly status: GrpcStatusName;
  readonly exposure: 'public' | 'internal';
  readonly means: string;
}

const input = (means: string) => ({ status: 'INVALID_ARGUMENT', exposure: 'public', means }) as const;
const unauthenticated = (means: string) =>
  ({ status: 'UNAUTHENTICATED', exposure: 'public', means }) as const;
const denied = (means: string) => ({ status: 'PERMISSION_DENIED', exposure: 'public', means }) as const;
const precondition = (means: string) =>
  ({ status: 'FAILED_PRECONDITION', exposure: 'public', means }) as const;
const exhausted = (means: string) => ({ status: 'RESOURCE_EXHAUSTED', exposure: 'public', means }) as const;
const unavailable = (means: string) => ({ status: 'UNAVAILABLE', exposure: 'public', means }) as const;
const internal = (means: string) => ({ status: 'INTERNAL', exposure: 'internal', means }) as const;

export const ERROR_TABLE = {
  // --- encodings
  der_invalid: input(
    'bytes that should be DER are not: truncated, trailing bytes, or not the one encoding that DER allows',
  ),
  pem_invalid: input('a PEM file has no block of the wanted kind, or a block that is not base64'),
  metadata_invalid: input('the metadata of a gRPC call is over its size limit, or a field of it is wrong'),
  message_malformed: input('a gRPC message is not valid protobuf of its type'),
  message_too_large: input('a message, file or field is over its size limit'),
  // --- SPIFFE IDs
  spiffe_id_invalid: input('a SPIFFE ID breaks a rule of the SPIFFE-ID standard; the message names the rule'),
  trust_domain_invalid: input(
    'a trust domain name breaks a rule of the SPIFFE-ID standard; the message names the rule',
  ),
  // --- CSRs
  csr_malformed: input('the CSR is not a strict DER PKCS#10 request'),
  csr_too_large: input('the CSR is over 16 KiB'),
  csr_key_type_unsupported: input('the CSR holds a key of a type or size that Kedge does not sign'),
  csr_signature_algorithm_unsupported: input(
    'the CSR is signed with an algorithm that Kedge does not take, such as one with SHA-1',
  ),
  csr_signature_invalid: input(
    "the CSR's signature does not verify with its own key: no proof of possession",
  ),
  csr_spiffe_id_mismatch: denied('the CSR asks for another SPIFFE ID than the token proves'),
  // --- X.509-SVIDs and chains
  svid_chain_empty: input('a chain without a certificate'),
  svid_chain_too_long: input('a chain with more certificates than the limit'),
  svid_malformed: input('a certificate in the chain is not strict DER X.509'),
  svid_uri_san_missing: input('the leaf has no URI SAN (X509-SVID section 2)'),
  svid_uri_san_multiple: input('the leaf has more than one URI SAN (X509-SVID section 2)'),
  svid_spiffe_id_invalid: input("the leaf's URI SAN is not a SPIFFE ID (X509-SVID section 2)"),
  svid_path_missing: input("the leaf's SPIFFE ID has no path (X509-SVID section 5.2)"),
  svid_leaf_is_ca: input('the leaf is a CA certificate (X509-SVID section 5.2)'),
  svid_key_usage_missing: input(
    'a certificate has no key usage, or not marked critical (X509-SVID section 4.3)',
  ),
  svid_leaf_signs_certificates: input("the leaf's key usage has keyCertSign (X509-SVID section 5.2)"),
  svid_leaf_signs_crls: input("the leaf's key usage has cRLSign (X509-SVID section 5.2)"),
  svid_digital_signature_missing: input(
    "the leaf's key usage lacks digitalSignature (X509-SVID section 4.3)",
  ),
  svid_extended_key_usage_invalid: input(
    'a certificate has an extended key usage without serverAuth and clientAuth (X509-SVID section 4.4)',
  ),
  svid_subject_empty_san_not_critical: input(
    'the subject is empty and the SAN not critical (RFC 5280 section 4.2.1.6)',
  ),
  svid_extension_unknown_critical: input('a certificate has a critical extension that Kedge does not know'),
  svid_not_yet_valid: input('a certificate of the chain is not valid yet'),
  svid_expired: input('a certificate of the chain has expired'),
  svid_issuer_not_ca: input('an issuer in the chain is not a CA certificate (X509-SVID section 4.1)'),
  svid_issuer_cannot_sign: input("an issuer's key usage lacks keyCertSign (X509-SVID section 4.3)"),
  svid_issuer_has_path: input("an issuer's SPIFFE ID has a path (X509-SVID section 3.2)"),
  svid_issuer_trust_domain_mismatch: input(
    "an issuer's SPIFFE ID is of another trust domain than the leaf's",
  ),
  svid_path_length_exceeded: input(
    "more intermediates than an issuer's path length allows (RFC 5280 section 4.2.1.9)",
  ),
  svid_name_constraint_violated: input(
    "the leaf's names fall outside an issuer's name constraints (RFC 5280 section 4.2.1.10)",
  ),
  svid_signature_invalid: input('a signature in the chain does not verify'),
  svid_algorithm_unsupported: input(
    'a certificate was signed with a key of a kind, size or form that Kedge does not accept',
  ),
  svid_revoked: input('a certificate of the chain is on a CRL of its issuer'),
  svid_untrusted: input("no trust anchor of the leaf's trust domain has signed the chain"),
  svid_trust_domain_unknown: input('there is no bundle for the trust domain of the leaf'),
  svid_private_key_mismatch: input('the private key is not the one of the leaf certificate'),
  svid_unexpected_id: denied('the SVID carries another SPIFFE ID than the one asked for'),
  // --- bundles and CRLs
  bundle_malformed: input('a bundle document is not a SPIFFE bundle (JWKS)'),
  bundle_empty: input('a bundle holds no X.509 authority, so nothing of its trust domain can be trusted'),
  bundle_sequence_regressed: precondition('a bundle has a lower sequence than the last good one'),
  crl_malformed: input('a CRL is not a strict DER CertificateList'),
  crl_signature_invalid: input('a CRL is not signed by the authority that it names'),
  // --- attestation
  token_missing: unauthenticated('the call has no bearer token'),
  token_malformed: unauthenticated(
    'the token is not a JWT in compact serialization, or is over its size limit',
  ),
  token_algorithm_refused: unauthenticated(
    'the token is signed by an algorithm that the issuer does not use',
  ),
  token_signature_invalid: unauthenticated('the token is not signed by a key of its issuer'),
  token_issuer_unknown: unauthenticated('the token is from an issuer that the CA does not accept'),
  token_audience_mismatch: unauthenticated("the token is not for this CA's audience"),
  token_expired: unauthenticated('the token has expired'),
  token_not_yet_valid: unauthenticated('the token is not valid yet'),
  token_claims_invalid: unauthenticated('a claim that Kedge needs is missing or of the wrong type'),
  token_not_bound_to_pod: unauthenticated('the token is not bound to a pod'),
  token_invalidated: unauthenticated(
    'the API server no longer accepts the token: its pod, its ServiceAccount or what else it is bound to is gone',
  ),
  attestation_unavailable: unavailable(
    'who must be asked about the token does not answer: the Kubernetes API server, or where an issuer has its keys',
  ),
  issuer_keys_invalid: precondition(
    'what a token issuer gives for its keys is no usable JWK Set, or its discovery document is not its own',
  ),
  token_key_invalid: precondition(
    "the development issuer's key file is readable by others, or holds no RSA private key",
  ),
  spiffe_id_template_mismatch: denied('the SPIFFE ID template yields no valid SPIFFE ID for this workload'),
  // --- policy
  identity_denied: denied('the policy denies this identity'),
  key_type_denied: denied('the policy does not allow this key type for this identity'),
  dns_name_denied: denied('the policy does not allow this identity a DNS name that it asks for'),
  dns_name_template_mismatch: denied(
    'a DNS name template of the policy yields no valid DNS name for this workload',
  ),
  // --- issuing
  issuer_unavailable: unavailable('the CA has no active issuer at this moment'),
  lint_failed: internal(
    'a certificate that was about to be signed breaks the SVID profile; nothing was signed',
  ),
  audit_unavailable: unavailable('the audit log cannot be written, so nothing is issued'),
  overloaded: exhausted('the CA has as many requests waiting as it allows; retry after the time given'),
  instance_overloaded: exhausted('this workload instance has more requests waiting than its fair share'),
  shutting_down: unavailable(
    'the process is draining; another replica, or this one after its restart, will answer',
  ),
  // --- what agents report
  report_invalid: input(
    'the first message of a Watch stream is not a report, or a field of a report is wrong',
  ),
  report_rate_exceeded: exhausted('an agent reports more often than the CA takes'),
  fleet_report_invalid: internal('what another CA replica says of its agents is not what a CA writes'),
  // --- trust state
  store_conflict: {
    status: 'ABORTED',
    exposure: 'internal',
    means: 'another writer changed the trust state first; read again',
  },
  store_corrupt: internal('the trust store file is damaged or is not one of Kedge'),
  store_newer_version: internal('the trust store was written by a newer Kedge'),
  store_unavailable: unavailable(
    'the trust store cannot be read or written: read-only, full disk, locked or gone',
  ),
  trust_state_invalid: internal('the document in the trust store is not a valid trust state'),
  trust_domain_mismatch: precondition(
    'the trust store belongs to another trust domain than the config names',
  ),
  data_folder_in_use: precondition('another CA runs on this data folder'),
  // --- keys and upstream
  key_sealed: internal('a CA key cannot be unsealed: wrong sealing key, or altered'),
  key_not_found: internal('a CA key is not in its key manager'),
  key_algorithm_unsupported: internal('the key manager does not make or sign with keys of this algorithm'),
  sealing_key_invalid: precondition('the sealing key file is missing, readable by others, or not 32 bytes'),
  upstream_refused: unavailable('the upstream authority did not give an issuer'),
  authority_unusable: internal('a new authority failed its checks and was not adopted'),
  // --- nested CAs
  downstream_unauthenticated: unauthenticated(
    'a nested CA did not prove who it is by an X.509-SVID of this CA',
  ),
  downstream_denied: denied('the configuration does not let this SPIFFE ID have issuers signed'),
  kedge_upstream_unreachable: unavailable('the CA above cannot be reached, or did not answer in time'),
  kedge_upstream_identity: precondition('the CA above, or the SVID to show it, is not what it should be'),
  // --- keys in a PKCS#11 token
  hsm_module_unavailable: precondition(
    'the PKCS#11 library, or the package pkcs11js that loads it, cannot be used on this machine',
  ),
  hsm_token_missing: unavailable('there is no PKCS#11 token of the configured label, or it was taken out'),
  hsm_unavailable: unavailable(
    'the PKCS#11 token does not answer, or answers with an error; it is tried again',
  ),
  hsm_pin_file_invalid: precondition('the file with the PIN of the PKCS#11 token cannot be used'),
  hsm_pin_wrong: precondition(
    'the PKCS#11 token refuses the PIN; it is not tried again until the file has another',
  ),
  hsm_pin_locked: precondition('the PIN of the PKCS#11 token is locked after too many wrong ones'),
  // --- upstream authority in files
  disk_file_missing: precondition('a file of the upstream authority does not exist'),
  disk_file_forbidden: precondition('a file of the upstream authority may not be read by the CA'),
  disk_file_symlink_loop: precondition(
    'a file of the upstream authority is a symbolic link that leads to itself',
  ),
  disk_file_invalid: precondition(
    'a file of the upstream authority is no regular file, too large, or unreadable',
  ),
  disk_file_truncated: precondition('a PEM file of the upstream authority is cut off'),
  disk_pem_missing: precondition('a file of the upstream authority is not PEM'),
  disk_files_swapped: precondition(
    'certificate and private key of the upstream authority are each where the other should be',
  ),
  disk_certificate_malformed: precondition('a certificate of the upstream authority cannot be read'),
  disk_key_malformed: precondition(
    'the private key of the upstream authority cannot be read, or is not alone in its file',
  ),
  disk_key_unsupported: precondition(
    'the private key of the upstream authority is of a kind, size or encryption that Kedge does not use',
  ),
  disk_key_mismatch: precondition('the private key of the upstream authority is of none of its certificates'),
  disk_passphrase_missing: precondition(
    'the private key of the upstream authority is encrypted, and there is no passphrase',
  ),
  disk_passphrase_wrong: precondition(
    'the private key of the upstream authority does not open with its passphrase',
  ),
  disk_chain_incomplete: precondition(
    'no chain leads from the certificate of the upstream authority to a root',
  ),
  disk_certificate_not_ca: precondition('a certificate of the upstream authority is not a CA'),
  disk_certificate_key_usage: precondition(
    'a certificate of the upstream authority may not sign certificates or CRLs',
  ),
  disk_certificate_trust_domain: precondition(
    'a certificate of the upstream authority is of another trust domain',
  ),
  disk_certificate_path_length: precondition(
    'the path length of a certificate of the upstream authority leaves no room for what is to stand below it',
  ),
  disk_certificate_expired: precondition('a certificate of the upstream authority has expired'),
  disk_certificate_not_yet_valid: precondition('a certificate of the upstream authority is not valid yet'),
  lifecycle_invalid: internal('a step of the lifecycle was asked for out of order'),
  // --- upstream: Vault
  vault_unreachable: unavailable(
    'no answer from Vault: its address, its certificate, the network, or it takes too long',
  ),
  vault_sealed: unavailable('the Vault is sealed, or not initialized'),
  vault_standby: unavailable('the Vault that answered does not lead its cluster, and does not forward'),
  vault_throttled: unavailable('a rate limit quota of Vault refused the call'),
  vault_unavailable: unavailable('an error of Vault itself (5xx)'),
  vault_forbidden: precondition(
    'no policy of the token allows what Kedge asked of Vault; the hint is the line that is missing',
  ),
  vault_login_refused: precondition('the login was refused by Vault, or the token in the token file'),
  vault_mount_missing: precondition(
    'there is no secrets engine of the wanted kind at the configured path of Vault',
  ),
  vault_namespace_missing: precondition('there is no such namespace in Vault'),
  vault_issuer_missing: precondition(
    'the PKI mount has no issuer of the configured name, or the version of Vault has no issuers',
  ),
  vault_root_missing: precondition(
    'the PKI mount has no CA, or the root that its CA hangs under is not known',
  ),
  vault_root_changed: unavailable(
    'an issuer of Vault would now hang under another root than the trust anchor in use; nothing is signed under it before the fleet trusts it',
  ),
  vault_clock_skewed: unavailable(
    "the clocks of Vault and the CA differ by more than a new issuer's validity bears",
  ),
  vault_refused: precondition('a call was refused by Vault in another way (4xx)'),
  vault_answer_empty: unavailable('an answer that should come from Vault has no body'),
  vault_answer_html: unavailable('an answer that should come from Vault is HTML: a proxy or a login page'),
  vault_answer_not_json: unavailable('an answer that should come from Vault is not JSON, or is cut off'),
  vault_answer_too_large: unavailable('an answer that should come from Vault is over its size limit'),
  vault_answer_invalid: unavailable('an answer of Vault lacks what its API documents'),
  vault_certificate_key_mismatch: precondition('what Vault signed is of another key than the one of the CSR'),
  vault_certificate_not_ca: precondition('what Vault signed, or a CA above it, is not a CA certificate'),
  vault_certificate_key_usage: precondition(
    'the key usage of what Vault signed, or of a CA above it, does not let it sign certificates or CRLs',
  ),
  vault_certificate_trust_domain: precondition(
    'what Vault signed, or a CA above it, is of another trust domain',
  ),
  vault_certificate_path_length: precondition(
    'the path length of a CA in Vault leaves no room for an issuer',
  ),
  vault_certificate_key_unsupported: precondition(
    'a CA in Vault has a key of a kind, curve or size that Kedge does not verify',
  ),
  vault_certificate_expired: precondition('what Vault signed, or a CA above it, has expired'),
  vault_certificate_not_yet_valid: precondition('what Vault signed, or a CA above it, is not valid yet'),
  rotation_refused: precondition('what was asked of the rotation of the trust anchor cannot be done now'),
  // --- audit log
  audit_chain_broken: precondition('a line of the audit log was altered or removed'),
  audit_malformed: precondition('a line of the audit log is not one of Kedge'),
  // --- agent
  identity_unavailable: { status: 'PERMISSION_DENIED', exposure: 'public', means: 'no identity issued' },
  identity_starting: unavailable('the agent has no SVID yet; it is asking the CA'),
  security_header_missing: input('the Workload API call lacks the header workload.spiffe.io: true'),
  too_many_streams: exhausted('the agent serves as many streams as it allows'),
  unimplemented: { status: 'UNIMPLEMENTED', exposure: 'public', means: 'this method is not served' },
  sds_type_url_unsupported: input('an SDS request is for another type of resource than Secret'),
  sds_names_exceeded: input('an SDS stream asks for more resource names than it may'),
  sds_name_unsupported: input(
    'an SDS request names a resource in a way that is not served: a file or a Kubernetes object of Istio, a locator',
  ),
  sds_name_unknown: input('an SDS request names a resource that this workload does not have'),
  sds_validator_disabled: precondition(
    'an Envoy asks for all bundles at once, but its SPIFFE validator, which they need, is off',
  ),
  sds_nack: precondition('an Envoy refused a secret (NACK) and goes on with the one before'),
  feed_failed: unavailable('a feed could not take the new identity; the old one stays in place'),
  hook_failed: unavailable(
    'the hook of a files feed exited with an error, was killed, or did not end in time',
  ),
  canary_refused: unavailable(
    'the proxy that the canary dialed does not accept the SVID that it presents itself from a client',
  ),
  canary_outdated: unavailable(
    'the proxy that the canary dialed presents an older SVID, or lacks a trust anchor of the newest bundle',
  ),
  haproxy_unreachable: unavailable(
    'the runtime API of a HAProxy cannot be reached, or did not answer in time; it is tried again',
  ),
  haproxy_refused: unavailable('a HAProxy refused a command of its runtime API; what it had in use stays'),
  haproxy_answer_invalid: unavailable('a HAProxy gave an answer that is cut off or not understood'),
  haproxy_payload_too_large: precondition(
    'certificates, CAs or CRLs make a longer command than the HAProxy takes: raise its tune.bufsize',
  ),
  haproxy_reload_needed: precondition(
    'a HAProxy before 3.3 (3.2: before 3.2.8) cannot replace CAs or CRLs safely at run time: the files are in place, it must be reloaded',
  ),
  haproxy_config_unusable: precondition(
    'the configuration of a HAProxy does not load the files of the feed so that they can be replaced safely',
  ),
  socket_in_use: precondition('another process serves this Unix socket'),
  socket_path_invalid: precondition(
    'the Unix socket path is not usable: not a socket, too long, or not ours',
  ),
  cache_unusable: precondition('the cache folder is not memory-backed or not private'),
  cache_invalid: precondition('the cached identity cannot be used'),
  ca_unreachable: unavailable('the CA cannot be reached'),
  ca_identity_mismatch: unauthenticated("the server at the CA's address is not the CA of this trust domain"),
  ca_answer_invalid: internal('the CA gave an answer that fails the checks of the agent'),
  agent_unreachable: unavailable('the Workload API of an agent cannot be reached'),
  agent_answer_invalid: internal('the Workload API gave an answer that breaks the standard'),
  health_service_unknown: {
    status: 'NOT_FOUND',
    exposure: 'public',
    means: 'the health of a service was asked for that is not served',
  },
  address_unavailable: precondition('an address or port cannot be listened on'),
  // --- Kubernetes: injection
  pod_malformed: input('an object is no pod, or no workload with pods, where injection needs it to be one'),
  injection_annotation_invalid: input(
    'an annotation or label under kedge.io/ is unknown, or has a value that it does not take',
  ),
  injection_refused: precondition(
    'a pod cannot have an agent as it is: the message names what is in the way, the hint how to go on without',
  ),
  admission_review_malformed: input('a request to the webhook is no AdmissionReview that it reads'),
  webhook_configuration_missing: precondition(
    'there is no MutatingWebhookConfiguration of the configured name, so that no pod gets an agent',
  ),
  manifest_malformed: input('a manifest is not YAML or JSON'),
  manifest_unsupported: input(
    'a manifest is written in a way that cannot be added to without a change elsewhere, such as by YAML anchors',
  ),
  // --- Kubernetes
  kubernetes_credentials_unavailable: precondition(
    'the credential plugin of the kubeconfig cannot be run, or handed out nothing that is of use',
  ),
  kubernetes_unauthorized: precondition('the Kubernetes API server does not accept the credentials'),
  kubernetes_forbidden: precondition(
    'the credentials lack an RBAC rule; the hint is the rule that is missing',
  ),
  kubernetes_not_found: {
    status: 'NOT_FOUND',
    exposure: 'public',
    means: 'the Kubernetes API server has no such object, or does not serve this kind of object',
  },
  kubernetes_exists: {
    status: 'ABORTED',
    exposure: 'internal',
    means: 'an object of this name is in the Kubernetes API already',
  },
  kubernetes_conflict: {
    status: 'ABORTED',
    exposure: 'internal',
    means: 'an object of the Kubernetes API was changed by another first, or is owned by another; read again',
  },
  kubernetes_gone: {
    status: 'ABORTED',
    exposure: 'internal',
    means: 'the Kubernetes API server no longer has what happened since that resourceVersion; list again',
  },
  kubernetes_refused: precondition('the Kubernetes API server does not take this object or request'),
  kubernetes_throttled: exhausted('the Kubernetes API server asks for fewer requests (429)'),
  kubernetes_unavailable: unavailable('the Kubernetes API server answers that it cannot do this now'),
  kubernetes_unreachable: unavailable(
    'the Kubernetes API server cannot be reached, its certificate is not trusted, or the connection broke',
  ),
  kubernetes_answer_invalid: unavailable(
    'the answer is not one that a Kubernetes API server gives: truncated, of another kind, or over the limit',
  ),
  // --- usage
  usage_invalid: input('a command line that the command does not take'),
  config_invalid: input('a configuration file or flag that Kedge does not take'),
  file_unreadable: precondition('a file cannot be read'),
  file_unwritable: precondition('a file cannot be written'),
  deadline_exceeded: unavailable('something did not answer in time'),
  cancelled: unavailable('the caller went away'),
  internal: internal('a mistake in Kedge; the log has the details under the incident id'),
} as const satisfies Record<string, ErrorSpec>;

/** A stable, documented error code. */
export type ErrorCode = keyof typeof ERROR_TABLE;
