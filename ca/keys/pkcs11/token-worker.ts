import type { Handle, Pkcs11Addon, Template } from './pkcs11-addon.ts';
import type { TokenAnswer, TokenCall, TokenFault, TokenValue, TokenWorkerData } from './token-protocol.ts';

/** The side of the thread of what it and the key manager talk through. */
export interface TokenPort {
  on(
    event: 'message',
    listener: (message: { readonly sequence: number; readonly call: TokenCall }) => void,
  ): unknown;
  postMessage(answer: TokenAnswer): void;
}

/**
 * What runs in the thread that talks to a PKCS#11 token: one session, one call after the other, each call of the
 * library blocking this thread alone. It holds handles and no policy; what to do about a fault is the key manager's.
 *
 * Its text is handed to the thread, so that it is the same in the source tree and in a bundle: it must use nothing
 * but its arguments.
 */
export function tokenWorker(port: TokenPort, addon: Pkcs11Addon, data: TokenWorkerData): void {
  const library = new addon.PKCS11();
  library.load(data.module);
  /** Null while there is no session. */
  let session: Handle | null = null;
  /** Handles of private keys by CKA_ID, hex; only good in this session. */
  const privateKeys = new Map<string, Handle>();

  const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : '');

  const fail = (fault: TokenFault): never => {
    throw Object.assign(new Error(fault.kind), { fault });
  };

  const start = (): void => {
    try {
      library.C_Initialize();
    } catch (error) {
      // Another user of the library in this process was faster.
      if (reasonOf(error) !== 'CKR_CRYPTOKI_ALREADY_INITIALIZED') throw error;
    }
  };

  const close = (): void => {
    privateKeys.clear();
    const open = session;
    session = null;
    if (open === null) return;
    try {
      library.C_CloseSession(open);
    } catch {
      // It was lost already.
    }
  };

  const open = (label: string, pin: string, again: boolean): TokenValue => {
    close();
    if (again) {
      try {
        library.C_Finalize();
      } catch {
        // It was not started, or is past that.
      }
    }
    start();
    const slot = library
      .C_GetSlotList(true)
      .find((one) => library.C_GetTokenInfo(one).label.replace(/[\0 ]+$/, '') === label);
    if (slot === undefined) return fail({ kind: 'no-token' });
    const opened = library.C_OpenSession(slot, addon.CKF_SERIAL_SESSION | addon.CKF_RW_SESSION);
    try {
      library.C_Login(opened, addon.CKU_USER, pin);
    } catch (error) {
      // The login is the process's, not the session's.
      if (reasonOf(error) !== 'CKR_USER_ALREADY_LOGGED_IN') {
        library.C_CloseSession(opened);
        throw error;
      }
    }
    session = opened;
    return { kind: 'opened' };
  };

  const find = (opened: Handle, id: Uint8Array, objectClass: number): readonly Handle[] => {
    library.C_FindObjectsInit(opened, [
      { type: addon.CKA_CLASS, value: objectClass },
      { type: addon.CKA_ID, value: Buffer.from(id) },
    ]);
    try {
      return library.C_FindObjects(opened, 4);
    } finally {
      library.C_FindObjectsFinal(opened);
    }
  };

  const generate = (opened: Handle, call: Extract<TokenCall, { kind: 'generate' }>): TokenValue => {
    const id = Buffer.from(call.id);
    const named: Template = [
      { type: addon.CKA_TOKEN, value: true },
      { type: addon.CKA_ID, value: id },
      { type: addon.CKA_LABEL, value: call.label },
    ];
    const isEc = 'ecParameters' in call.key;
    const kind: Template =
      'ecParameters' in call.key
        ? [{ type: addon.CKA_EC_PARAMS, value: Buffer.from(call.key.ecParameters) }]
        : [
            { type: addon.CKA_MODULUS_BITS, value: call.key.rsaBits },
            { type: addon.CKA_PUBLIC_EXPONENT, value: Buffer.of(1, 0, 1) },
          ];
    const pair = library.C_GenerateKeyPair(
      opened,
      { mechanism: isEc ? addon.CKM_EC_KEY_PAIR_GEN : addon.CKM_RSA_PKCS_KEY_PAIR_GEN },
      [...named, ...kind, { type: addon.CKA_VERIFY, value: true }],
      [
        ...named,
        { type: addon.CKA_PRIVATE, value: true },
        { type: addon.CKA_SENSITIVE, value: true },
        { type: addon.CKA_EXTRACTABLE, value: false },
        { type: addon.CKA_SIGN, value: true },
      ],
    );
    const bytes = (type: number): Uint8Array => {
      const value = library.C_GetAttributeValue(opened, pair.publicKey, [{ type }])[0]?.value;
      return Uint8Array.from(value instanceof Uint8Array ? value : []);
    };
    const isTrue = (type: number): boolean => {
      const value = library.C_GetAttributeValue(opened, pair.privateKey, [{ type }])[0]?.value;
      return value instanceof Uint8Array && value[0] === 1;
    };
    // Not what was asked for counts, but what the token says the key is.
    const confined = isTrue(addon.CKA_SENSITIVE) && !isTrue(addon.CKA_EXTRACTABLE);
    privateKeys.set(id.toString('hex'), pair.privateKey);
    const publicKey = isEc
      ? { ecPoint: bytes(addon.CKA_EC_POINT) }
      : { modulus: bytes(addon.CKA_MODULUS), exponent: bytes(addon.CKA_PUBLIC_EXPONENT) };
    return { kind: 'generated', publicKey, confined };
  };

  const sign = (opened: Handle, call: Extract<TokenCall, { kind: 'sign' }>): TokenValue => {
    const name = Buffer.from(call.id).toString('hex');
    const key = privateKeys.get(name) ?? find(opened, call.id, addon.CKO_PRIVATE_KEY)[0];
    if (key === undefined) return fail({ kind: 'no-key' });
    privateKeys.set(name, key);
    const mechanism = call.mechanism === 'ecdsa' ? addon.CKM_ECDSA : addon.CKM_RSA_PKCS;
    library.C_SignInit(opened, { mechanism }, key);
    const signature = library.C_Sign(opened, Buffer.from(call.data), Buffer.alloc(1024));
    return { kind: 'signed', signature: Uint8Array.from(signature) };
  };

  const destroy = (opened: Handle, id: Uint8Array): TokenValue => {
    privateKeys.delete(Buffer.from(id).toString('hex'));
    for (const objectClass of [addon.CKO_PRIVATE_KEY, addon.CKO_PUBLIC_KEY]) {
      for (const object of find(opened, id, objectClass)) library.C_DestroyObject(opened, object);
    }
    return { kind: 'destroyed' };
  };

  const carryOut = (call: TokenCall): TokenValue => {
    if (call.kind === 'open') return open(call.label, call.pin, call.again);
    const opened = session;
    if (opened === null) return fail({ kind: 'closed' });
    if (call.kind === 'generate') return generate(opened, call);
    if (call.kind === 'sign') return sign(opened, call);
    return destroy(opened, call.id);
  };

  port.on('message', ({ sequence, call }) => {
    try {
      port.postMessage({ sequence, value: carryOut(call) });
    } catch (error) {
      const known = (error as { fault?: TokenFault }).fault;
      const method = (error as { method?: unknown }).method;
      const fault: TokenFault = known ?? {
        kind: 'refused',
        reason: reasonOf(error),
        call: typeof method === 'string' ? method : '',
      };
      port.postMessage({ sequence, fault });
    }
  });
}
