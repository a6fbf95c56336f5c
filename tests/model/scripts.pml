/* scripts.pml: one inline for each script in conserver/queue, each one step in Redis. */

/* let_go in prelude.lua: what belongs to the epoch goes with it, wherever it is remembered. */
inline let_go(w,x) {
  if :: c[w].slot[0].item==x -> c[w].slot[0].fits=0; c[w].slot[0].meant=0 :: else fi;
  if :: c[w].slot[1].item==x -> c[w].slot[1].fits=0; c[w].slot[1].meant=0 :: else fi;
  if :: c[w].late_call && c[w].late_item==x -> c[w].late_fits=0; c[w].late_meant=0 :: else fi;
  c[w].begun = c[w].begun & ~only(x);
  c[w].ran = c[w].ran & ~only(x);
#ifdef M_BEGUN_NOEPOCH             /* the mark is not fenced by the epoch */
  if :: c[w].late_call==BEGIN && c[w].late_item==x -> c[w].late_fits=1 :: else fi;
  c[w].once = c[w].once & ~only(x);
#endif
  if :: c[w].over_limit==x+1 -> c[w].over_limit_meant=0 :: else fi;
#ifndef M_PAGE_NOEPOCH             /* blame by token: a later holding is blamed for this one */
  c[w].page = c[w].page & ~only(x);
  if :: c[w].over_limit==x+1 -> c[w].over_limit=0 :: else fi;
#endif
  c[w].late_strays = c[w].late_strays & ~only(x);
  c[w].answer_fits = c[w].answer_fits & ~only(x);
  c[w].batch = c[w].batch & ~only(x)
}
inline dead_letter(x) { dlq = dlq | only(x); dead = dead | only(x) }
inline forget_progress(x) {        /* what a bare payload has, and a replayed record gets */
  deaths[x]=0; suspect[x]=0; outside_deaths[x]=0; own_deaths[x]=0;
  written = written & ~only(x); stored = stored & ~only(x)
}
#ifdef M_NO_SUSPECTS               /* the blamed come back as if nothing had been */
#define send_back(x) push_tail(returned,x)
#else
#define send_back(x) if :: suspect[x] -> push_tail(suspects,x) :: else -> push_tail(returned,x) fi
#endif

/* ---- claim.lua ---- */
inline take(w,x) { c[w].held = c[w].held | only(x); m = m | only(x) }

/* Takes up to n items; m is what it took. */
inline claim(w,n) {
  m=0; k=n;
#if FO
  last_settle=0; last_register=0; last_void=0; last_forget=0; last_claim=1+w;
  claim_q=q; claim_returned=returned; claim_suspects=suspects;
  claim_field=runs_suspect[host_of(w)];
#endif
  if
  :: gets_suspect(w) ->
     do
     :: k==n && suspects ->
        e=head(suspects); drop_head(suspects);
        take(w,e); runs_suspect[host_of(w)] = 1+w*4+e;
#ifdef M_ALONE_B                   /* a suspect, and then whatever there is */
        k--
#else
        k=0
#endif
     :: else -> break
     od
  :: else
  fi;
#ifndef M_ALONE_B
  if :: holds_suspect(w) -> k=0 :: else fi;
#endif
  do
  :: k>0 && returned -> e=head(returned); drop_head(returned); take(w,e); k--
  :: k>0 && returned==0 && q -> e=head(q); drop_head(q); take(w,e); k--
  :: else -> break
  od;
#if FO
  if :: m==0 -> SOMETHING_ELSE :: else -> claim_took=m fi;
#endif
  e=0; k=0; one_place
}

/* The number: an equal one gets what it took and is still held, nothing new. */
inline numbered_claim(w,n) {
  if
  :: !may_claim(w) -> m=0
  :: else ->
#ifdef M_BATCH_INFLIGHT            /* a batch is remembered only by what is still held of it */
     if :: c[w].batch==0 -> claim(w,n); c[w].batch=m :: else -> m=c[w].batch fi;
#elif defined(M_BATCH_NONE)        /* a repetition claims anew */
     claim(w,n);
#else
     if
     :: !c[w].executed ->
        claim(w,n); c[w].batch=m;
#ifdef M_BATCH_NONEMPTY            /* empty claims do not raise the number */
        c[w].executed=(m->1:0)
#else
        c[w].executed=1
#endif
     :: else -> m=c[w].batch
     fi;
#endif
  fi
}
/* A copy on a dead connection: of the number that is current, or of a lower one. */
inline claim_late(w,n) {
  if
  :: c[w].late_is_current -> numbered_claim(w,n)
  :: !c[w].late_is_current && may_claim(w) ->
#if defined(M_BATCH_INFLIGHT) || defined(M_BATCH_NONE) || defined(M_LOWER) || \
    defined(M_BATCH_NONEMPTY)      /* M_LOWER: a lower number claims like any other */
     claim(w,n)
#else
     skip
#endif
  :: else
  fi;
  m=0; c[w].late_claim=0; c[w].late_is_current=0
}
/* The worker goes on to its next number: copies of the last one are late from here on. */
inline next_number(w) {
  if
  :: c[w].late_claim && c[w].late_is_current ->
#if defined(M_BATCH_INFLIGHT) || defined(M_BATCH_NONE) || defined(M_LOWER)
     c[w].late_is_current=0
#elif defined(M_BATCH_NONEMPTY)
     c[w].late_is_current=0; if :: c[w].executed -> c[w].late_claim=0 :: else fi
#else
     c[w].late_claim=0; c[w].late_is_current=0      /* it would be told that it is late */
#endif
  :: else
  fi;
  c[w].executed=0; c[w].batch=0
}

/* ---- settle.lua, move.lua, write.lua, begin.lua: fenced by token and epoch ---- */
inline release(x) {
#ifdef L_REL                       /* a suspect is released like any other */
  if
  :: suspect[x] || has(written,x) || deaths[x] -> push_head(returned,x); suspect[x]=0
  :: else -> push_head(q,x)
  fi
#else
  if
  :: suspect[x] -> push_head(suspects,x)
  :: !suspect[x] && (has(written,x) || deaths[x]) -> push_head(returned,x)
  :: else -> push_head(q,x)
  fi
#endif
}
#ifdef M_FIELD_STICKY
#define leave_field(w,x) \
  if :: runs_suspect[host_of(w)]==1+w*4+x -> runs_suspect[host_of(w)]=0 :: else fi;
#else
#define leave_field(w,x)
#endif
inline settle(w,x) {
  settled = settled | only(x);
  assert(has(written,x) && has(stored,x));
  assert(!has(egressed,x)); egressed = egressed | only(x);
#if FO
  last_settle = 1+w*4+x+16*counts;
#endif
  skip
}
inline begin(w,x,meant_) {
#ifdef M_BEGUN_NOEPOCH
  if
  :: has(c[w].held,x) ->
     c[w].begun = c[w].begun | only(x);
     if :: meant_ -> c[w].once = c[w].once | only(x) :: else fi
  :: else
  fi
#else
  c[w].begun = c[w].begun | only(x)
#endif
#ifdef M_BEGUN_STAYS               /* the mark is not cleared by a move */
  ; once_begun = once_begun | only(x)
#endif
}
inline unfenced(w,what,x) {        /* what a call does that finds nothing: nothing */
#ifdef M_NOFENCE                   /* a settle asks nobody */
  if :: what==SETTLE -> assert(!has(egressed,x)); egressed=egressed|only(x); settled=settled|only(x)
     :: else fi
#elif defined(M_WRITE_NOFENCE)     /* a write puts back a record that has been taken away */
  if :: what==WRITE -> c[w].held = c[w].held | only(x) :: else fi
#else
  skip
#endif
}
inline call_of_worker(w,what,x,fits_,meant_) {
  if
  :: fits_ ->
#ifdef M_BEGUN_NOEPOCH
     if :: what!=BEGIN -> assert(meant_) :: else fi;
#else
     assert(meant_);               /* the fence lets through nothing but the holding meant */
#endif
     SOMETHING_ELSE
     if
     :: what<=RELEASE ->
        assert(has(c[w].held,x));
        c[w].held = c[w].held & ~only(x); counts=has(c[w].begun,x); let_go(w,x); leave_field(w,x)
     :: else
     fi;
     if
     :: what==SETTLE -> settle(w,x)
     :: what==PARK -> parked = parked | only(x)
     :: what==DEADLETTER -> dead_letter(x)
     :: what==REFUSE -> assert(!innocent(x) || outside_deaths[x]>=MAXD); dead_letter(x)
     :: what==RELEASE -> release(x)
     :: what==WRITE -> written = written | only(x)
     :: what==BEGIN -> begin(w,x,meant_)
     fi;
     counts=0
  :: else -> unfenced(w,what,x)
  fi;
  one_place
}

/* ---- return.lua, for one item: any coordinator may go on with any of them ---- */
/* unknown: whoever does it has not seen the death, and blames everything. */
inline return_one(w,x,unknown) {
  SOMETHING_ELSE
  counts=has(c[w].begun,x); showed=has(c[w].page,x);
#ifdef M_BEGUN_NOEPOCH
  if :: has(c[w].once,x) && c[w].killed_outside && outside_deaths[x]<3 -> outside_deaths[x]++
     :: else fi;
#else
  if :: counts && c[w].killed_outside && outside_deaths[x]<3 -> outside_deaths[x]++ :: else fi;
#endif
#ifdef M_BEGUN_STAYS
  counts=has(once_begun,x);
#elif defined(M_COUNT_UNBEGUN)     /* every suspect counts, begun or not */
  counts=suspect[x];
#elif defined(M_COUNT_ALL)         /* all that is blamed counts */
  counts=(unknown || showed);
#elif defined(M_COUNT_OWN)         /* only a death that was seen counts */
  counts=counts && !unknown;
#endif
  if :: !unknown && c[w].ours -> counts=0 :: else fi;
  if :: !unknown && c[w].over_limit==x+1 -> counts=1 :: else fi;
#ifndef NOBEGUNCHECK
  assert(!counts || has(c[w].begun,x) || (!unknown && c[w].over_limit==x+1));
  assert(!counts || !innocent(x) || c[w].killed_outside);
#endif
  assert(unknown || c[w].over_limit!=x+1 || c[w].over_limit_meant);
  /* Where the death was seen, what only lay there is no suspect for it. */
  assert(unknown || !showed || has(c[w].ran,x));
  c[w].held = c[w].held & ~only(x); let_go(w,x);
  if :: counts && deaths[x]<3 -> deaths[x]++ :: else fi;
#ifdef L_SUS                       /* a suspect that had not begun comes back ordinary */
  suspect[x]=(unknown || showed || counts);
#elif !defined(M_NO_SUSPECTS)
  if :: unknown || showed -> suspect[x]=1 :: else fi;
#endif
  send_back(x);
  counts=0; showed=0; one_place
}

/* ---- stray.lua, for one item ---- */
inline stray(w,x) {
  SOMETHING_ELSE
  assert(!(c[w].alive && (has(known_to(w),x) || has(c[w].answer_fits,x) ||
           (c[w].claiming && has(c[w].batch,x)))));
  c[w].held = c[w].held & ~only(x); let_go(w,x);
  if :: suspect[x] -> push_tail(suspects,x) :: else -> push_tail(returned,x) fi;
  one_place
}

/* ---- promote.lua, for one item ---- */
#ifdef L_PARK                      /* a suspect that was parked comes back ordinary */
#define promote(x) suspect[x]=0; push_tail(returned,x)
#else
#define promote(x) if :: suspect[x] -> push_tail(suspects,x) :: else -> push_tail(returned,x) fi
#endif

/* ---- replay.lua: the record first, then a payload that is equal; e is the record ---- */
#ifdef EQP
#define equal(r) ((r)<2 -> 3 : only(r))
#else
#define equal(r) only(r)
#endif
#define a_payload k=(has(dlq,e) -> e : 1-e)
#if defined(M_REPLAY_NOLREM)       /* the payload stays, or is taken for there */
#define replay \
  if :: has(dead,e) -> dead=dead&~only(e); dlq=dlq&~only(e); \
        forget_progress(e); push_tail(returned,e) \
     :: else fi;
#elif defined(L_LREM_FIRST)        /* the payload first: a repetition takes an equal one */
#define replay \
  if :: (dlq&equal(e)) -> a_payload; dlq=dlq&~only(k); \
        if :: has(dead,e) -> dead=dead&~only(e); forget_progress(k); push_tail(returned,k) \
           :: else fi \
     :: else fi;
#elif defined(M_REPLAY_SPLIT)      /* two calls, the second lost with its sender */
#define replay \
  if :: has(dead,e) && (dlq&equal(e)) -> dead=dead&~only(e); a_payload; \
        forget_progress(k); push_tail(returned,k) \
     :: else fi;
#else
#define replay \
  if :: has(dead,e) -> dead=dead&~only(e); \
        if :: (dlq&equal(e)) -> a_payload; dlq=dlq&~only(k); \
              forget_progress(k); push_tail(returned,k) \
           :: else fi \
     :: else fi;
#endif

/* ---- register.lua, and the void that return.lua and reap.lua leave ---- */
#ifdef M_HOSTS_ONCE                /* a host is listed by its supervisor's start only */
bit new_supervisor[2]=1;
#define list_host(w) \
  if :: listed[host_of(w)]==0 && new_supervisor[host_of(w)] && \
        !(c[1-w].known && host_of(1-w)==host_of(w) && c[1-w].alive) -> \
        listed[host_of(w)]=1; new_supervisor[host_of(w)]=0 \
     :: else fi;
#define supervisor_starts(h) new_supervisor[h]=1;
#else
#define list_host(w) listed[host_of(w)]=1;
#define supervisor_starts(h)
#endif
#ifdef M_FIELD_STICKY
#define new_name(w)
#else                              /* a new consumer: the field cannot name it */
#define new_name(w) if :: runs_suspect[host_of(w)] && field_worker(host_of(w))==w -> \
                          runs_suspect[host_of(w)]=0 :: else fi
#endif

#ifdef M_NO_VOID                   /* the one who reaps remembers it, Redis does not */
bit reaper_knows[2];
#define make_void(w) reaper_knows[w]=1
#define is_void(w) (c[w].registration==REGISTERED && reaper_knows[w])
#define may_void(w) (c[w].registration==REGISTERED && !reaper_knows[w])
#define no_longer_void(w) reaper_knows[w]=0;
#elif defined(M_REG_FIRST)         /* the registration goes before what it held */
#define make_void(w) c[w].registration=GONE
#define is_void(w) (c[w].registration==VOID)
#define may_void(w) (c[w].registration==REGISTERED)
#define no_longer_void(w)
#else
#define make_void(w) c[w].registration=VOID
#define is_void(w) (c[w].registration==VOID)
#define may_void(w) (c[w].registration==REGISTERED)
#define no_longer_void(w)
#endif

/* ---- reap.lua ---- */
#define on_host_with(h,r) \
  ((on_host(h,0) && c[0].registration==r) || (on_host(h,1) && c[1].registration==r))
#define reap(h) \
  reaping[h]=1; \
  if :: on_host(h,0) && may_void(0) -> \
        c[0].killed_outside=c[0].killed_outside|c[0].alive; make_void(0) :: else fi; \
  if :: on_host(h,1) && may_void(1) -> \
        c[1].killed_outside=c[1].killed_outside|c[1].alive; make_void(1) :: else fi
#define delete_host(h) \
  if :: on_host(h,0) -> c[0].registration=GONE :: else fi; \
  if :: on_host(h,1) -> c[1].registration=GONE :: else fi; \
  listed[h]=0; runs_suspect[h]=0
#if defined(M_FORGET_HELD)         /* the host's hash goes with what its voided ones held */
#define forget_host(h) delete_host(h)
#elif defined(L_FORGET)            /* when nothing is held by any of it: harmless too */
#define forget_host(h) \
  if :: (on_host(h,0) && c[0].held) || (on_host(h,1) && c[1].held) -> skip \
     :: else -> delete_host(h) fi
#else                              /* when no registration is left */
#define forget_host(h) \
  if :: on_host_with(h,REGISTERED) -> skip :: else -> listed[h]=0; runs_suspect[h]=0 fi
#endif
