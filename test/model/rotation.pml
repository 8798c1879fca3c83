/*
 * The rotation of a trust anchor as a protocol: CA replicas that share a trust state by compare-and-swap, and agents
 * that hold bundles and SVIDs. Messages are late, lost, and overtaken; replicas crash, or read late; agents restart
 * without a memory; operators abort. `npm run test:model` runs it, exhaustively, with `spin` (docs/rotation.md).
 *
 * The question is the first invariant of the design, *no split*: what one instance presents, every other accepts.
 *
 * The rules of the real protocol that are in it. Each can be left out, to see that the question is a real one:
 *   GATES            a step is taken only when every live instance is known to be ready          (ca/authority)
 *   SWAP             only who has read the newest trust state may replace it                     (ca/store)
 *   ISSUE_VOIDS      what an instance reported counts only if it is of the SVID that it was issued last  (ca/fleet)
 *   REPLICAS_FOLLOW  a gate also waits until every replica has read the trust state that it is about     (ca/fleet)
 *
 * Abstractions, each of which allows more than the real protocol does:
 * - The anchors are A (old) and B (new); the issuers A0 and A1 hang under A, B0 under B. A phase of the rotation fixes
 *   the bundle and the issuer that signs.
 * - What an instance reports is known to every replica at once and for ever; a late, lost or overtaken report keeps a
 *   gate shut for longer, no more. What one process holds never goes back, so a late report tells nothing new.
 * - That an instance was issued an SVID is known to the replica that signed it, and to others once they have read
 *   something of that replica which is newer: they know all that it signed before it saw the phase that it shows.
 * - An agent has one request on the way, and drops the answer to one that it gave up. Any replica may answer it, and
 *   give it a bundle, at any time.
 * - SVIDs do not expire: that takes an instance out of the fleet, and can only help.
 * A replica that crashes knows afterwards what it signed; nothing else of it is in the model, so no step is needed.
 */

#define REPLICAS 2
#ifndef AGENTS
#define AGENTS 3
#endif
/* How often in all an agent restarts. Answers may get lost without end. */
#ifndef RESTARTS
#define RESTARTS 2
#endif

#ifndef GATES
#define GATES 1
#endif
#ifndef SWAP
#define SWAP 1
#endif
#ifndef ISSUE_VOIDS
#define ISSUE_VOIDS 1
#endif
#ifndef REPLICAS_FOLLOW
#define REPLICAS_FOLLOW 1
#endif

/* The phases. */
#define BEFORE 0      /* A alone */
#define PREPARED 1    /* A and B in the bundle; A0 signs */
#define ACTIVE 2      /* A and B; B0 signs */
#define REMOVED 3     /* B alone; B0 signs: done */
#define GIVEN_UP 4    /* aborted while prepared: A alone; A0 signs */
#define TURNED_BACK 5 /* aborted while active: A and B; A1 signs */
#define BACK 6        /* A alone; A1 signs */

/* The bundles; 0 is none. 3 and 4 have the same sequence, and never exist together. */
#define BUNDLE(phase) \
  ((phase) == BEFORE -> 1 : ((phase) == REMOVED -> 3 : (((phase) == GIVEN_UP || (phase) == BACK) -> 4 : 2)))
#define SEQUENCE(bundle) ((bundle) == 4 -> 3 : (bundle))
#define HOLDS_A(bundle) ((bundle) == 1 || (bundle) == 2 || (bundle) == 4)
#define HOLDS_B(bundle) ((bundle) == 2 || (bundle) == 3)

/* The issuers; 0 is none. */
#define A0 1
#define B0 2
#define A1 3
#define ISSUER(phase) \
  (((phase) == ACTIVE || (phase) == REMOVED) -> B0 : (((phase) == TURNED_BACK || (phase) == BACK) -> A1 : A0))
#define VERIFIES(issuer, bundle) \
  (((issuer) == B0 && HOLDS_B(bundle)) || ((issuer) != B0 && HOLDS_A(bundle)))

/* What an instance can report: nothing that a gate asks for; a bundle with B; and an SVID of B0, or of A1. */
#define HAS_B 1
#define HAS_B0 2
#define HAS_A1 3

#define NONE 7

typedef Agent {
  unsigned bundle : 3;
  unsigned issuer : 2;        /* of the SVID that it serves; 0 = none */
  bit isNewest;               /* that SVID is the one that it was issued last */
  unsigned answer : 2;        /* issuer of an SVID on the way to it; 0 = none */
  unsigned beside : 3;        /* the bundle that is on the way with it */
  unsigned reported : 2;      /* what it reported last */
  /* The phase that each replica saw when it first signed for the instance since the SVID of that report; or NONE. */
  byte signedIn[REPLICAS]
};

/* The trust store; and the newest phase that each replica has read. */
byte stored = BEFORE;
byte seen[REPLICAS];
Agent agent[AGENTS];
byte restarts = 0;

byte i, r, g, q;

/* Whether a gate at the replica `me` knows that `by` issued an SVID to the instance after that of its report. */
#define VOID(me, i, by) (ISSUE_VOIDS && agent[i].signedIn[by] != NONE && \
  (by == me || (REPLICAS_FOLLOW && agent[i].signedIn[by] != stored)))

/* Whether every instance is known to have what is `wanted`. */
bit ready;
inline gate(me, wanted) {
  ready = 1;
  if
  :: GATES ->
    for (q : 0 .. REPLICAS - 1) {
      ready = ready && (!REPLICAS_FOLLOW || seen[q] == stored)
    }
    for (g : 0 .. AGENTS - 1) {
      ready = ready && (agent[g].reported == wanted || (wanted == HAS_B && agent[g].reported != 0));
      for (q : 0 .. REPLICAS - 1) {
        ready = ready && !VOID(me, g, q)
      }
    }
  :: else
  fi;
  q = 0; g = 0
}

#define AT(r, phase) (seen[r] == (phase) && (!SWAP || stored == (phase)))

inline swap(r, phase) {
  stored = phase;
  seen[r] = phase
}

inline issue(i, r) {
  agent[i].isNewest = 0;
  agent[i].answer = ISSUER(seen[r]);
  agent[i].beside = BUNDLE(seen[r]);
  if
  :: agent[i].signedIn[r] == NONE -> agent[i].signedIn[r] = seen[r]
  :: else
  fi
}

inline takeAnswer(i) {
  if
  :: SEQUENCE(agent[i].beside) > SEQUENCE(agent[i].bundle) -> agent[i].bundle = agent[i].beside
  :: else
  fi;
  if
  :: VERIFIES(agent[i].answer, agent[i].bundle) ->
    agent[i].issuer = agent[i].answer;
    agent[i].isNewest = 1
  :: else
  fi;
  agent[i].answer = 0;
  agent[i].beside = 0
}

inline report(i) {
  agent[i].reported = (agent[i].issuer == B0 -> HAS_B0 : (agent[i].issuer == A1 -> HAS_A1 : HOLDS_B(agent[i].bundle)));
  if
  :: agent[i].isNewest ->
    for (q : 0 .. REPLICAS - 1) {
      agent[i].signedIn[q] = NONE
    }
    q = 0
  :: else
  fi
}

/* The agent of the pod starts again, with nothing. */
inline restart(i) {
  restarts++;
  agent[i].bundle = 0;
  agent[i].issuer = 0;
  agent[i].isNewest = 0;
  agent[i].answer = 0;
  agent[i].beside = 0
}

/* Instances are alike, and replicas: of all the orders that they could stand in, few are looked at. */
#define KEY(a) (((((agent[a].bundle * 4 + agent[a].issuer) * 2 + agent[a].isNewest) * 4 + agent[a].answer) * 8 + \
  agent[a].beside) * 4 + agent[a].reported) * 64 + agent[a].signedIn[0] * 8 + agent[a].signedIn[1]

#define EXCHANGE(field, a, b) \
  g = agent[a].field; agent[a].field = agent[b].field; agent[b].field = g

inline order(a, b) {
  if
  :: KEY(a) > KEY(b) ->
    EXCHANGE(bundle, a, b);
    EXCHANGE(issuer, a, b);
    EXCHANGE(isNewest, a, b);
    EXCHANGE(answer, a, b);
    EXCHANGE(beside, a, b);
    EXCHANGE(reported, a, b);
    EXCHANGE(signedIn[0], a, b);
    EXCHANGE(signedIn[1], a, b);
    g = 0
  :: else
  fi
}

inline orderAll() {
  if
  :: seen[0] > seen[1] ->
    g = seen[0];
    seen[0] = seen[1];
    seen[1] = g;
    for (q : 0 .. AGENTS - 1) {
      g = agent[q].signedIn[0];
      agent[q].signedIn[0] = agent[q].signedIn[1];
      agent[q].signedIn[1] = g
    }
    q = 0; g = 0
  :: else
  fi;
  order(0, 1)
#if AGENTS > 2
  ;
  order(1, 2);
  order(0, 1)
#endif
}

active proctype world() {
  d_step {
    for (i : 0 .. AGENTS - 1) {
      agent[i].bundle = 1;
      agent[i].issuer = A0;
      agent[i].isNewest = 1;
      for (q : 0 .. REPLICAS - 1) {
        agent[i].signedIn[q] = NONE
      }
    }
    q = 0;
    i = 0
  }
  do
  :: atomic {
    select(r : 0 .. REPLICAS - 1);
    select(i : 0 .. AGENTS - 1);
    if
    /* ---- replicas ---- */
    :: i == 0 && seen[r] != stored -> seen[r] = stored
    :: i == 0 && AT(r, BEFORE) -> d_step { swap(r, PREPARED) }
    :: i == 0 && AT(r, PREPARED) -> d_step { gate(r, HAS_B); if :: ready -> swap(r, ACTIVE) :: else fi; ready = 0 }
    :: i == 0 && AT(r, ACTIVE) -> d_step { gate(r, HAS_B0); if :: ready -> swap(r, REMOVED) :: else fi; ready = 0 }
    :: i == 0 && AT(r, PREPARED) -> d_step { swap(r, GIVEN_UP) }
    :: i == 0 && AT(r, ACTIVE) -> d_step { swap(r, TURNED_BACK) }
    :: i == 0 && AT(r, TURNED_BACK) -> d_step { gate(r, HAS_A1); if :: ready -> swap(r, BACK) :: else fi; ready = 0 }
    /* ---- the wire ---- */
    :: SEQUENCE(BUNDLE(seen[r])) > SEQUENCE(agent[i].bundle) -> agent[i].bundle = BUNDLE(seen[r])
    :: agent[i].answer == 0 && ISSUER(seen[r]) != agent[i].issuer -> d_step { issue(i, r) }
    :: r == 0 && agent[i].issuer != 0 -> d_step { report(i) }
    /* ---- agents ---- */
    :: r == 0 && agent[i].answer != 0 -> d_step { takeAnswer(i) }
    :: r == 0 && agent[i].answer != 0 -> agent[i].answer = 0; agent[i].beside = 0
    :: r == 0 && restarts < RESTARTS -> d_step { restart(i) }
    :: else
    fi;
    d_step { i = 0; r = 0; orderAll() }
  }
  od
}

#define ACCEPTS(a, b) (agent[a].issuer == 0 || agent[b].issuer == 0 || VERIFIES(agent[a].issuer, agent[b].bundle))
#if AGENTS > 2
#define ACCEPT_EACH_OTHER \
  (ACCEPTS(0, 1) && ACCEPTS(1, 0) && ACCEPTS(0, 2) && ACCEPTS(2, 0) && ACCEPTS(1, 2) && ACCEPTS(2, 1))
#else
#define ACCEPT_EACH_OTHER (ACCEPTS(0, 1) && ACCEPTS(1, 0))
#endif

ltl no_split { [] ACCEPT_EACH_OTHER }
/* These three are wrong: a rotation, and each of the two ways back, can come to its end. */
ltl never_removed { [] (stored != REMOVED) }
ltl never_given_up { [] (stored != GIVEN_UP) }
ltl never_back { [] (stored != BACK) }
