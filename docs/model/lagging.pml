/* One entry at two providers; the daemon goes over from one to the other, which may lag behind.
   Each write makes a version of the entry; its number is the entryCSN, which grows with time. A provider has one version.
   An assertion is judged by the provider that is written to. Replication carries whole entries, later or at once, and the
   newer entryCSN wins, as in OpenLDAP without delta-syncrepl.
   Assumed, since no client can repair it (CONFLICTING_WRITES and WRITES_LOST lift it): operators write to the provider
   that the daemon writes to, when that has the newest version; the daemon goes over when it has seen the newest version of
   the provider that it leaves; what a provider has acknowledged reaches the other some time. */
#include "protocol.pml"
#ifndef DAEMONS
#define DAEMONS 1
#endif
#ifndef REQUESTS
#define REQUESTS 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef FAILOVERS
#define FAILOVERS 2
#endif
#ifndef LOGINS
#define LOGINS 1
#endif
#define SHARED (DAEMONS == 2)
#define VERSIONS 20

mtype phase[VERSIONS] = done;     /* by version */
byte request[VERSIONS], holder[VERSIONS];
byte last;                      /* the newest version anywhere */
byte at[2];                     /* the version that each provider has */
byte server[2];                 /* the provider that each daemon reads from and writes to */
byte seen[2];                   /* the newest entryCSN that each daemon knows of */
byte notified[2];               /* the newest version that the persistent search has told of */
byte newest;                    /* the newest request that was worked on */
byte requests, crashes, failovers, logins, running;
bool staleJob;                  /* property 3: a request was carried out after a later one */

#ifdef WRITES_LOST
#define judged at[server[0]]    /* the provider that is left */
#define inSync (failovers > 0 || at[0] == at[1])
#else
#define judged last
#define inSync (at[server[0]] == last)
#endif
#define isAnswered (phase[judged] == done && request[judged] == requests)
#define me1 (SHARED * (me + 1))

inline write_(p, f, r, h) { last++; phase[last] = f; request[last] = r; holder[last] = h; at[p] = last }
inline see(v) { if :: v > seen[me] -> seen[me] = v :: else fi }

/* One modify that asserts the entryCSN v. */
inline send(k) {
  atomic {
    if
    :: at[server[me]] != v -> result = lost
    :: else ->
       if
       :: k == claim || k == resume -> write_(server[me], claimed, job, me1)
       :: else ->
          if :: request[v] != job -> wrongOutcome = true :: else fi;
          write_(server[me], done, job, 0)
       fi;
       v = last; see(v); result = written
    fi;
    safe
  }
}

/* The read on the work connection. */
#ifdef TRUST_LAGGING
#define mayDecide true
#else
#define mayDecide (at[server[me]] >= seen[me])
#endif

proctype Daemon(bit me) {
  byte v, job; mtype result = lost, how = none;

idle:
  atomic { v = 0; job = 0; how = none; result = lost };
end:
  /* A notification, of the provider where the persistent search is: not always that of the work connection. */
  if
  :: atomic { at[0] > notified[me] -> notified[me] = at[0]; see(at[0]) }
  :: atomic { at[1] > notified[me] -> notified[me] = at[1]; see(at[1]) }
  fi;
reconcile:
  atomic { mayDecide -> v = at[server[me]]; see(v); job = request[v];
    if
    :: SHARED && holder[v] != 0 && holder[v] != me1 -> goto idle
    :: else
    fi;
    if
    :: phase[v] == requested -> how = claim
    :: phase[v] == claimed -> how = resume
    :: else -> goto idle
    fi
  };
  send(how);
  if :: result == lost -> goto reconcile :: else fi;
  atomic {
    running++;
    if :: running > 1 -> twoJobs = true :: else fi;
    if :: job < newest -> staleJob = true :: else newest = job fi;
    assert(!twoJobs); assert(!staleJob)
  };
  if
  :: atomic { running--; goto ended }
  :: atomic { crashes < CRASHES -> crashes++; running--; v = 0; job = 0; notified[me] = 0;
#ifdef FORGET_SEEN
       seen[me] = 0;
#endif
       goto idle }
  fi;
ended:
  send(finish);
  if
  :: result == written -> goto idle
  :: else ->
     /* read by entryUUID */
     atomic { mayDecide -> v = at[server[me]]; see(v);
       if
       :: phase[v] == claimed && holder[v] == me1 -> goto ended
       :: else -> goto reconcile
       fi }
  fi
}

proctype Operator() {
  byte p;
end:
  do
#ifdef CONFLICTING_WRITES
  :: atomic { requests < REQUESTS -> if :: p = 0 :: p = 1 fi; requests++; write_(p, requested, requests, holder[at[p]]); p = 0 }
#else
  :: atomic { requests < REQUESTS && inSync ->
       requests++; p = server[0]; write_(p, requested, requests, holder[at[p]]); p = 0;
#ifdef WRITES_LOST
       if :: failovers == 0 -> at[1] = last :: else fi       /* requests reach both; only the daemon's writes get lost */
#endif
     }
#endif
  :: atomic { logins < LOGINS && inSync ->
       logins++; p = server[0]; write_(p, phase[at[p]], request[at[p]], holder[at[p]]); p = 0 }
  od
}

/* The newer entryCSN wins. */
#ifdef WRITES_LOST
#define replicates (failovers == 0)     /* the provider that the daemon left does not come back */
#else
#define replicates true
#endif
proctype Replication() {
end:
  do
  :: atomic { at[0] < at[1] && replicates -> at[0] = at[1] }
  :: atomic { at[1] < at[0] && replicates -> at[1] = at[0] }
#ifdef RETRY_FORGETS
  /* accounts retry UID: an operator knows that the newer version is gone for ever. */
  :: atomic { !replicates && at[server[0]] < seen[0] -> seen[0] = at[server[0]]; notified[0] = 0 }
#endif
  od
}

#ifdef CONFLICTING_WRITES
#define mayLeave(d) (failovers < FAILOVERS)
#else
#define mayLeave(d) (failovers < FAILOVERS && at[server[d]] <= seen[d])
#endif
proctype FailOver() {
end:
  do
  :: atomic { mayLeave(0) -> failovers++; server[0] = 1 - server[0] }
  :: atomic { SHARED && mayLeave(1) -> failovers++; server[1] = 1 - server[1] }
  od
}

init {
  atomic {
    run Operator(); run Replication(); run FailOver(); run Daemon(0);
    if :: SHARED -> run Daemon(1) :: else fi
  }
}

/* Property 1. */
ltl answered { [] <> isAnswered }
