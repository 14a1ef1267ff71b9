/* Two entries, with one DN one after the other or with one uid at the same time: renamed, removed, added again.
   A write goes to a DN; the server applies it to the entry that has that DN then. Jobs work on the home of a uid.
   Entry 0 exists at the start and owns its home; entry 1 is added by an operator.
   DAEMONS=2: each entry at another daemon (they share the accounts by CLAIM); each has its own scheduler, and so its own
   exclusion keys. Two daemons for one entry: claim.pml.
   Entries are told apart by entryUUID, which is their index here. */
#include "protocol.pml"
#ifndef DAEMONS
#define DAEMONS 1
#endif
#ifndef REQUESTS
#define REQUESTS 2
#endif
#ifndef BREAKS
#define BREAKS 1
#endif
#ifndef RENAMES
#define RENAMES 1       /* another DN, or another uid */
#endif
#define SHARED (DAEMONS == 2)
#define NO_ENTRY 9

typedef Entry { bool exists; bit dn; bit uid; mtype phase = done; bool deletes; byte request; byte holder }
Entry entry[2];
typedef Seen { bool current[2] }    /* by daemon and entry: the entryCSN that was read is still the entry's */
Seen seen[2];
typedef Write { mtype kind = none; bit uuid; bit dn; bit at; byte request; byte holder }
Write late;                         /* one write that is still on its way: of the job for an entry, with the CSN of one */

typedef Keys { byte held[2] }       /* exclusion keys account:UID of each daemon's scheduler: entry + 1 */
Keys keys[2];
byte locked[2];                     /* a lock next to the home, which both daemons see */
byte running[2];                    /* jobs at work on the home of a uid */
byte requests, breaks, renames;
bool removedLive;                   /* property 2: a home was removed that another entry uses */
bool sharedHome;                    /* property 2: work on a home that two entries had when the request was read */

#define pendingEntry(e) (entry[e].exists && (entry[e].phase == requested || entry[e].phase == claimed))
#define pending (pendingEntry(0) || pendingEntry(1))
#define twin(e) (entry[1 - (e)].exists && entry[1 - (e)].uid == uid)   /* the search (uid=N) finds another entry */
#define me1 (SHARED * (me + 1))

inline changed(e) {
  seen[0].current[e] = false; seen[1].current[e] = false;
  if :: late.kind != none && late.at == e -> forget() :: else fi
}
inline forget() { late.kind = none; late.uuid = 0; late.dn = 0; late.at = 0; late.request = 0; late.holder = 0 }

#if defined(NO_ASSERT_UUID) || defined(CSN_ALONE)
#define UUID(e) true
#else
#define UUID(e) (target == (e))
#endif

/* The server. The CSN is that of entry `a`: entryCSNs are unique, so it fits no other entry. */
inline apply(k, d, e, a, fresh, r, h) {
  if
  :: entry[0].exists && entry[0].dn == d -> target = 0
  :: entry[1].exists && entry[1].dn == d -> target = 1
  :: else -> target = NO_ENTRY
  fi;
  if
  :: target == NO_ENTRY -> ok = false
  :: else ->
     ok = UUID(e) && target == a && fresh && ((k == claim || k == refuse) && entry[target].phase == requested || k != claim && k != refuse && entry[target].phase == claimed);
     if
     :: ok ->
        if
        :: k == claim || k == resume -> entry[target].phase = claimed; entry[target].holder = h
        :: else ->
           if :: target != e || entry[target].request != r -> wrongOutcome = true :: else fi;
           entry[target].holder = 0;
           if :: k == finish -> entry[target].phase = done :: else -> entry[target].phase = failed fi
        fi;
        changed(target)
     :: else
     fi
  fi
}

inline send(k) {
  if
  :: atomic {
       apply(k, dn, me_e, at, seen[me].current[at], job, me1);
       if :: ok -> result = written; seen[me].current[at] = true :: else -> result = lost fi;
       ok = false; target = 0; assert(!wrongOutcome)
     }
  :: atomic { breaks < BREAKS && late.kind == none -> breaks++; result = unknown;
       if
       :: seen[me].current[at] -> late.kind = k; late.uuid = me_e; late.dn = dn; late.at = at; late.request = job; late.holder = me1
       :: else
       fi }
  fi
}

/* The reconciler of one daemon for one entryUUID: at most one at a time, since the entryUUID is an exclusion key. */
proctype Reconciler(bit me; bit me_e) {
  bit uid, dn, at, key; byte job; mtype result = lost, outcome = none; byte target; bool ok, twins, shared, deletes;

idle:
  atomic { uid = 0; dn = 0; at = 0; key = 0; job = 0; outcome = none; result = lost; twins = false; shared = false; deletes = false; seen[me].current[me_e] = false };
end:
  /* The item's keys are taken from what the notification said. */
  atomic { pendingEntry(me_e) && (entry[me_e].holder == 0 || entry[me_e].holder == me1) -> key = entry[me_e].uid };
#ifndef NO_UID_KEY
end_blocked:
  atomic { keys[me].held[key] == 0 -> keys[me].held[key] = me_e + 1 };
#endif
  /* The read, by entryUUID. */
  atomic {
    at = me_e; uid = entry[me_e].uid; dn = entry[me_e].dn; job = entry[me_e].request; deletes = entry[me_e].deletes; shared = twin(me_e);
    if
    :: !pendingEntry(me_e) || (entry[me_e].holder != 0 && entry[me_e].holder != me1) -> goto free
#ifndef NO_KEY_RECHECK
    :: uid != key -> goto free               /* the uid was changed since: the item gets other keys */
#endif
    :: else -> seen[me].current[me_e] = true
    fi
  };
  /* The search for (uid=N). */
  atomic {
#ifdef NO_UID_SEARCH
    twins = false
#else
    twins = twin(me_e)
#endif
  };
  if
  :: atomic { seen[me].current[me_e] -> skip };
     if
     :: entry[me_e].phase == requested && !twins -> outcome = claim
     :: entry[me_e].phase == requested && twins -> outcome = refuse
     :: entry[me_e].phase == claimed -> outcome = resume
     :: else -> goto free
     fi
  :: atomic { !seen[me].current[me_e] -> goto free }
  fi;
taking:
  send(outcome);
  if
  :: atomic { result == lost -> goto free }
  :: atomic { result == unknown -> goto taking }
  :: atomic { result == written && outcome == refuse -> goto free }
  :: atomic { result == written && outcome != refuse -> skip }
  fi;
  if
  :: atomic { twins -> outcome = fail; goto ended }
  :: atomic { !twins -> skip }
  fi;
#ifdef HOME_LOCK
end_locked:
  atomic { locked[uid] == 0 -> locked[uid] = 1 };
#endif
  /* The work. */
  atomic {
    running[uid]++;
    if :: running[uid] > 1 -> twoJobs = true :: else fi;
    assert(!twoJobs);
    if :: shared && twin(me_e) -> sharedHome = true :: else fi;
    assert(!sharedHome);
    shared = false
  };
  atomic {
    outcome = finish;
    if
    :: deletes ->
#ifndef NO_LOOK_AGAIN
       if :: twin(me_e) -> outcome = fail; goto worked :: else fi;
#endif
       /* The home goes. */
       if :: twin(me_e) && entry[1 - me_e].phase == done && !entry[1 - me_e].deletes -> removedLive = true :: else fi;
       assert(!removedLive)
    :: else
    fi
  };
worked:
  atomic { running[uid]--; locked[uid] = 0 };

ended:
  send(outcome);
  if
  :: atomic { result == written -> goto free }
  :: atomic { result == unknown -> goto ended }
  :: atomic { result == lost ->
#ifdef NO_ASSERT_UUID
       if
       :: entry[0].exists && entry[0].dn == dn -> at = 0
       :: entry[1].exists && entry[1].dn == dn -> at = 1
       :: else -> goto free
       fi;
#else
       dn = entry[me_e].dn;         /* read by entryUUID: a renamed entry is still the same job */
#endif
       if
       :: entry[at].exists && entry[at].phase == claimed && entry[at].holder == me1 -> seen[me].current[at] = true; goto ended
       :: else -> goto free
       fi }
  fi;
free:
  atomic {
#ifndef NO_UID_KEY
    if :: keys[me].held[key] == me_e + 1 -> keys[me].held[key] = 0 :: else fi;
#endif
    goto idle
  }
}

proctype Operator() {
end:
  do
  /* a request */
  :: atomic { requests < REQUESTS && entry[0].exists -> requests++; entry[0].phase = requested; entry[0].request = requests;
       if :: entry[0].deletes = true :: entry[0].deletes = false fi; changed(0) }
  :: atomic { requests < REQUESTS && entry[1].exists -> requests++; entry[1].phase = requested; entry[1].request = requests;
       if :: entry[1].deletes = true :: entry[1].deletes = false fi; changed(1) }
  /* removed; nothing may be done for that */
  :: atomic { entry[0].exists -> entry[0].exists = false; changed(0) }
  /* added: with entry 0's DN, if that is free, and with its uid or another; asking for `add`, or as it stood elsewhere */
  :: atomic { !entry[1].exists && entry[1].request == 0 ->
       if
       :: !(entry[0].exists && entry[0].dn == 0) -> entry[1].dn = 0
       :: !(entry[0].exists && entry[0].dn == 1) -> entry[1].dn = 1
       fi;
       if :: entry[1].uid = 0 :: entry[1].uid = 1 fi;
       entry[1].exists = true; entry[1].request = 8;
       if :: entry[1].phase = requested :: entry[1].phase = done fi; changed(1) }
  /* renamed, or another uid */
  :: atomic { renames < RENAMES && entry[0].exists && !(entry[1].exists && entry[1].dn == 1 - entry[0].dn) -> renames++; entry[0].dn = 1 - entry[0].dn; changed(0) }
  :: atomic { renames < RENAMES && entry[0].exists -> renames++; entry[0].uid = 1 - entry[0].uid; changed(0) }
  :: atomic { renames < RENAMES && entry[1].exists -> renames++; entry[1].uid = 1 - entry[1].uid; changed(1) }
  od
}

proctype Network() {
  bit d, e, a; byte r, h, target; mtype k = none; bool ok;
end:
  do
  :: atomic { late.kind != none ->
       if
       :: k = late.kind; d = late.dn; e = late.uuid; a = late.at; r = late.request; h = late.holder; forget();
          apply(k, d, e, a, true, r, h); k = none; d = 0; e = 0; a = 0; r = 0; h = 0; target = 0; ok = false;
          assert(!wrongOutcome)
       :: forget()
       fi }
  od
}

init {
  atomic {
    entry[0].exists = true;
    run Operator(); run Network(); run Reconciler(0, 0); run Reconciler(SHARED, 1)
  }
}

/* Property 1. */
ltl answered { [] <> !pending }
