/* queue.pml: the queue protocol of conserver/queue, its workers, households and faults.
 *
 * One process; each guarded step is one script in Redis, or one step of a worker, a supervisor or
 * a coordinator. Without mutants no step breaks an assertion, and every run can end with all items
 * settled or dead-lettered. What each place and word means is in state.pml, the scripts are in
 * scripts.pml, the faults and mutants in knobs.pml.
 *
 * 1. A worker has one call outstanding, its main loop's: a claim, or one of its slots'.
 * 2. A call is sent, executed, answered. It may outlive its sender, be dropped, be executed twice,
 *    or late, the first copy after the second.
 * 3. Any coordinator may go on with a void registration at any item, so one may die between any two.
 * 4. Ghosts (so called in state.pml) are what only the model knows; no step is guarded by them.
 */
#include "knobs.pml"
#include "state.pml"
#include "scripts.pml"

/* ---- a worker's slots ---- */
#ifdef M_RUN_POISON                /* nobody is given up */
#define is_refused(x) false
#else
#define is_refused(x) (deaths[x]>=MAXD)
#endif
inline clear(w,i) {
  c[w].slot[i].item=NOBODY; c[w].slot[i].step=FREE; c[w].slot[i].call=0;
  c[w].slot[i].fits=0; c[w].slot[i].meant=0; c[w].slot[i].done=0
}
inline fill(w,i,x) {
  c[w].slot[i].item=x;
  c[w].slot[i].fits=has(c[w].answer_fits,x); c[w].slot[i].meant=c[w].slot[i].fits;
  c[w].slot[i].step=(c[w].slot[i].fits && is_refused(x) -> REFUSED : HELD)
}
inline put(w,x) {
  if
  :: c[w].slot[0].step==FREE -> fill(w,0,x)
  :: c[w].slot[0].step!=FREE && c[w].slot[1].step==FREE -> fill(w,1,x)
  fi
}
inline send(w,i,what) { c[w].slot[i].call=what; c[w].slot[i].step=SENT }

/* ---- deaths ---- */
#ifdef M_PAGE_CHAIN                /* writers are not on the page */
#define on_page(w,s) (c[w].slot[s].fits && c[w].slot[s].step==RUNS)
#elif defined(M_BLAME_HELD)        /* all that it held is blamed, not only what ran */
#define on_page(w,s) c[w].slot[s].fits
#else
#define on_page(w,s) (c[w].slot[s].fits && \
  ((c[w].slot[s].step>=RUNS && c[w].slot[s].step<=STORED) || \
   (c[w].slot[s].step>=SENT && c[w].slot[s].call!=REFUSE && c[w].slot[s].call!=RELEASE && \
    c[w].slot[s].call!=BEGIN)))
#endif
/* The supervisor's word, that a child has ended and whom it blames, stays in its order book until
   the deed is done and acknowledged. A coordinator that dies in between leaves it to the next one. That
   makes a difference only where coordinators die. */
#ifdef M_TOLD_ONCE                 /* it is said once, and nobody compares */
#define tell(w) c[w].told=c[w].known;
#define told_is_void(w) c[w].told=0;
#define knows_of(w) true
#elif STEWK
#define tell(w) c[w].order=c[w].known;
#define told_is_void(w)
#define knows_of(w) (c[w].told || !c[w].order)
#else
#define tell(w)
#define told_is_void(w)
#define knows_of(w) true
#endif
#define acknowledge(w) c[w].order=0; c[w].told=0;
inline die(w,outside) {
  tell(w)
  c[w].alive=0; c[w].killed_outside=outside|(c[w].registration!=REGISTERED);
  c[w].page=(c[w].known -> (on_page(w,0) -> only(c[w].slot[0].item) : 0) |
                           (on_page(w,1) -> only(c[w].slot[1].item) : 0) : 0);
  c[w].claiming=0; c[w].answered=0; c[w].answer=0; c[w].answer_fits=0; c[w].answer_void=0;
  if :: c[w].claim_sent && !c[w].late_claim -> c[w].late_claim=c[w].claim_sent;
        c[w].late_is_current=1 :: else fi;
  c[w].claim_sent=0;
  if :: c[w].slot[0].step!=SENT -> clear(w,0) :: else fi;    /* what is on its way may arrive */
  if :: c[w].slot[1].step!=SENT -> clear(w,1) :: else fi
}
inline not_over_limit(w) { c[w].over_limit=0; c[w].over_limit_meant=0 }
inline household_dies(w) {
  acknowledge(w)                   /* the book goes too: others have only the registration */
  c[w].known=0; c[w].page=0; c[w].ours=0; not_over_limit(w)
}
inline host_dies(h,outside) {
  if :: on_host(h,0) -> if :: c[0].alive -> die(0,outside) :: else fi; household_dies(0) :: else fi;
  if :: on_host(h,1) -> if :: c[1].alive -> die(1,outside) :: else fi; household_dies(1) :: else fi
}
#if defined(KDFREE) || STALE || REQ || TOOL || FO || SLOW
#define dies_of(x) skip
#else                              /* once in company, then alone, MAXD times */
#define dies_of(x) own_deaths[x]++; assert(own_deaths[x]<=1+MAXD)
#endif
#ifdef M_VOID_STAYS                /* a worker that is told "void" lives on */
#define told_void(w) \
  c[w].answered=0; c[w].claiming=0; c[w].answer_void=0; c[w].says_empty=0
#else
#define told_void(w) die(w,1)
#endif

/* ---- a worker's claim ---- */
#if defined(M_ALONE_A)
#define worth_a_claim(w) (q||returned||gets_suspect(w))
#elif defined(M_ALONE_B)
#define worth_a_claim(w) \
  ((suspects!=0 && !runs_one(host_of(w)) && c[w].held==0 && holds_nothing(w)) || q || returned || \
   c[w].registration!=REGISTERED)
#elif defined(L_HLEN)
#define worth_a_claim(w) (gets_suspect(w) || ((q||returned) && !holds_suspect(w)))
#else
#define worth_a_claim(w) \
  ((suspects!=0 && !runs_one(host_of(w)) && c[w].held==0 && holds_nothing(w)) || \
   ((q||returned) && !holds_suspect(w)) || c[w].registration!=REGISTERED)
#endif
#ifdef M_NEW_BATCH                 /* after an error it takes a new number */
#define repeat_claim(w) \
  if :: c[w].claim_sent -> \
        c[w].late_claim=c[w].claim_sent; c[w].late_is_current=1; c[w].claim_sent=0 \
     :: else fi; \
  c[w].answered=0; c[w].answer=0; c[w].answer_fits=0; c[w].claiming=0; c[w].answer_void=0
#else
#define repeat_claim(w) \
  if :: c[w].claim_sent -> c[w].late_claim=c[w].claim_sent; c[w].late_is_current=1 \
     :: else -> c[w].answered=0; c[w].answer=0; c[w].answer_fits=0; c[w].answer_void=0; \
                c[w].claim_sent=free_slots(w) fi
#endif
#define CLAIMS(w) \
  :: d_step { c[w].alive && c[w].known && !c[w].claiming && !waits_for_answer(w) && \
              free_slots(w)>0 && (worth_a_claim(w) || empty_claims>0) -> \
              if :: worth_a_claim(w) :: else -> empty_claims-- fi; \
              next_number(w); c[w].claim_sent=free_slots(w); \
              c[w].says_empty=holds_nothing(w); c[w].claiming=1 } \
  :: d_step { c[w].claim_sent -> \
              numbered_claim(w,c[w].claim_sent); c[w].claim_sent=0; \
              if :: c[w].alive -> c[w].answered=1; c[w].answer=m; c[w].answer_fits=m; \
                    c[w].answer_void=!may_claim(w) :: else fi; \
              m=0 } \
  :: d_step { c[w].late_claim -> claim_late(w,c[w].late_claim) } \
  :: d_step { c[w].late_claim -> c[w].late_claim=0; c[w].late_is_current=0 } \
  :: d_step { c[w].alive && c[w].answered && !c[w].answer_void -> \
              if :: has(c[w].answer,0) -> put(w,0) :: else fi; \
              if :: has(c[w].answer,1) -> put(w,1) :: else fi; \
              if :: N>2 && has(c[w].answer,2) -> put(w,2) :: else fi; \
              c[w].answer=0; c[w].answer_fits=0; c[w].answered=0; c[w].claiming=0; \
              c[w].says_empty=0 } \
  :: d_step { c[w].alive && c[w].answered && c[w].answer_void -> told_void(w) } \
  :: d_step { c[w].alive && c[w].claiming && losses>0 && \
              (c[w].answered || c[w].late_claim==0) -> losses--; repeat_claim(w) }

/* ---- what lies under a worker that does not know it ---- */
#ifdef M_STRAY_OUT                 /* looked for while a claim is on its way */
#define may_look(w) true
#else
#define may_look(w) (!c[w].claiming)
#endif
#ifdef M_STRAY_NOBOUND             /* of any epoch */
#define strays(w) (c[w].held & ~known_to(w))
#define late_strays_of(w) (c[w].held & ~c[w].late_known)
#else
#define strays(w) (c[w].held & ~known_to(w) & ~(c[w].claiming -> c[w].batch : 0))
#define late_strays_of(w) (c[w].held & c[w].late_strays)
#endif
#ifdef LSTR
#define strays_come_late true
#else
#define strays_come_late false
#endif
#ifdef M_NO_STRAYS
#define STRAYS(w)
#else
#define STRAYS(w) \
  :: atomic { c[w].alive && may_look(w) && !waits_for_answer(w) && strays(w) -> \
              pick(strays(w)); stray(w,e); e=0 } \
  :: d_step { c[w].alive && may_look(w) && !waits_for_answer(w) && losses>0 && \
              !c[w].late_stray && strays_come_late -> \
              losses--; c[w].late_stray=1; c[w].late_strays=strays(w); \
              c[w].late_known=known_to(w) } \
  :: atomic { c[w].late_stray && late_strays_of(w) -> pick(late_strays_of(w)); stray(w,e); e=0 } \
  :: d_step { c[w].late_stray -> c[w].late_stray=0; c[w].late_strays=0; c[w].late_known=0 }
#endif

/* ---- a worker lives and dies; its own coordinator, and any other ---- */
#ifdef M_TOLD_ONCE
#define own_coordinator_voids(w) (c[w].told && may_void(w))
#elif defined(M_NO_VOID) || defined(L_OWNMISSING)   /* a missing registration is nobody's concern */
#define own_coordinator_voids(w) may_void(w)
#else                              /* compares registrations with living children, always; but of
                                      those it is told only after all orders */
#define own_coordinator_voids(w) \
  (knows_of(w) && (may_void(w) || (c[w].registration==GONE && c[w].held)))
#endif
#define LIFE(w) \
  :: d_step { !c[w].alive && c[w].registration==GONE && c[w].held==0 && quiet(w) && \
              (settled|dlq)!=ALL -> \
              SOMETHING_ELSE last_register=(FO->1+w:0); \
              c[w].alive=1; c[w].registration=REGISTERED; c[w].known=1; c[w].killed_outside=0; \
              c[w].ours=0; not_over_limit(w); c[w].page=0; c[w].executed=0; c[w].batch=0; \
              c[w].says_empty=0; c[w].ran=0; list_host(w) acknowledge(w) new_name(w) } \
  :: d_step { c[w].alive && kills>0 -> kills--; die(w,1); not_over_limit(w) } \
  :: d_step { c[w].alive && c[w].known && shutdowns>0 -> \
              shutdowns--; die(w,1); not_over_limit(w); c[w].ours=1 } \
  :: d_step { c[w].alive && c[w].known && c[w].over_limit -> die(w,0) } \
  :: d_step { c[w].alive && !c[w].known -> die(w,1) } \
  /* its own coordinator: void, then item by item, with the page */ \
  :: d_step { !c[w].alive && c[w].known && own_coordinator_voids(w) -> \
              SOMETHING_ELSE \
              last_void=(FO && c[w].registration==REGISTERED -> 1+w : 0); \
              make_void(w); told_is_void(w) } \
  :: d_step { c[w].order && !c[w].told -> c[w].told=1 } \
  :: d_step { c[w].told && coordinator_kills>0 -> \
              coordinator_kills--; c[w].told=0; \
              if :: host_of(0)==host_of(1) -> c[1-w].told=0 :: else fi } \
  :: atomic { !c[w].alive && c[w].known && knows_of(w) && is_void(w) && c[w].held -> \
              pick(c[w].held); return_one(w,e,0); e=0 } \
  /* any other coordinator; the registration goes in the call that finds nothing held */ \
  :: atomic { is_void(w) && c[w].held -> pick(c[w].held); return_one(w,e,1); e=0 } \
  :: d_step { is_void(w) && c[w].held==0 -> \
              SOMETHING_ELSE last_forget=(FO->1+w:0); no_longer_void(w) \
              c[w].registration=GONE; c[w].page=0; not_over_limit(w); c[w].ours=0; acknowledge(w) }

#define anybody(h,what) ((on_host(h,0) && what(0)) || (on_host(h,1) && what(1)))
#define is_known(w) c[w].known
#define dead_host(w) (may_void(w) && !c[w].known)
#define living_host(w) (may_void(w) && c[w].known)
#define HOST(h) \
  :: d_step { host_kills>0 && anybody(h,is_known) -> \
              host_kills--; supervisor_starts(h) host_dies(h,1) } \
  :: d_step { supervisor_kills>0 && anybody(h,is_known) -> \
              supervisor_kills--; supervisor_starts(h) \
              if :: on_host(h,0) -> household_dies(0) :: else fi; \
              if :: on_host(h,1) -> household_dies(1) :: else fi } \
  /* reaped: dead, or by mistake */ \
  :: d_step { listed[h] && anybody(h,dead_host) -> SOMETHING_ELSE reap(h) } \
  :: d_step { wrong_reaps>0 && listed[h] && anybody(h,living_host) -> \
              wrong_reaps--; SOMETHING_ELSE reap(h) } \
  :: d_step { reaping[h] && !on_host_with(h,VOID) -> SOMETHING_ELSE reaping[h]=0; forget_host(h) }

/* ---- one slot: begun, run, written, stored, settled, or one of the ways out ---- */
#ifdef M_BEGUN_AFTER               /* a suspect is marked when its links are done */
#define asks_first(w,s) false
#define marks_after(w,s) \
  if :: c[w].slot[s].fits && suspect[c[w].slot[s].item] -> \
        c[w].begun=c[w].begun|only(c[w].slot[s].item) :: else fi;
#else
#define asks_first(w,s) (suspect[c[w].slot[s].item])
#define marks_after(w,s)
#endif
#ifdef M_SETTLE_EARLY              /* egress before storage */
#define may_settle(w,s) (c[w].slot[s].step==WRITTEN || c[w].slot[s].step==STORED)
#else
#define may_settle(w,s) (c[w].slot[s].step==STORED)
#endif
#ifdef M_NO_WRITE                  /* storage before the document is in Redis */
#define SKIPS_THE_WRITE(w,s) \
  :: d_step { c[w].alive && c[w].slot[s].step==RUNS && innocent(c[w].slot[s].item) -> \
              c[w].slot[s].step=WRITTEN }
#else
#define SKIPS_THE_WRITE(w,s)
#endif
#define at(w,s,p) (c[w].alive && c[w].slot[s].step==(p))
#define may_send(w) (!c[w].claiming)
#define it(w,s) c[w].slot[s].item
#define runs(w,s) \
  c[w].slot[s].step=RUNS; \
  c[w].ran=c[w].ran|(c[w].slot[s].fits -> only(it(w,s)) : 0)
#define WAY(w,s) \
  :: d_step { at(w,s,HELD) && c[w].known && !asks_first(w,s) -> runs(w,s) } \
  :: d_step { at(w,s,HELD) && c[w].known && asks_first(w,s) && may_send(w) -> send(w,s,BEGIN) } \
  :: d_step { at(w,s,RUNS) && !has(POISON|HOSTP|SLOW|PPARK,it(w,s)) && may_send(w) -> \
              marks_after(w,s) send(w,s,WRITE) } \
  SKIPS_THE_WRITE(w,s) \
  :: d_step { at(w,s,WRITTEN) -> c[w].slot[s].step=STORED; stored=stored|only(it(w,s)) } \
  :: d_step { c[w].alive && may_settle(w,s) && !has(PSTORE,it(w,s)) && may_send(w) -> \
              send(w,s,SETTLE) } \
  /* other ways out */ \
  :: d_step { at(w,s,REFUSED) && c[w].known && may_send(w) -> send(w,s,REFUSE) } \
  :: d_step { at(w,s,RUNS) && parks>0 && (innocent(it(w,s)) || has(SLOW,it(w,s))) && \
              may_send(w) -> \
              parks--; send(w,s,PARK) } \
  :: d_step { at(w,s,RUNS) && burials>0 && innocent(it(w,s)) && may_send(w) -> \
              burials--; send(w,s,DEADLETTER) } \
  :: d_step { at(w,s,HELD) && (releases>0 || !c[w].known) && may_send(w) -> \
              if :: c[w].known -> releases-- :: else fi; send(w,s,RELEASE) } \
  :: d_step { at(w,s,RUNS) && has(PPARK,it(w,s)) && suspect[it(w,s)] && may_send(w) -> \
              send(w,s,PARK) }
#define KILLS(w,s) \
  :: d_step { at(w,s,RUNS) && (has(POISON,it(w,s)) || \
                               (has(PPARK,it(w,s)) && !suspect[it(w,s)])) -> \
              dies_of(it(w,s)); die(w,0) } \
  :: d_step { at(w,s,WRITTEN) && has(PSTORE,it(w,s)) -> dies_of(it(w,s)); die(w,0) } \
  :: d_step { at(w,s,STORED) && has(PSTORE,it(w,s)) -> dies_of(it(w,s)); die(w,0) } \
  :: d_step { at(w,s,RUNS) && has(HOSTP,it(w,s)) -> \
              dies_of(it(w,s)); counts=!(c[w].slot[s].fits && suspect[it(w,s)]); \
              host_dies(host_of(w),counts); counts=0 } \
  /* its supervisor has seen on the page that it is over_limit; between that and the kill the worker \
     goes on */ \
  :: d_step { at(w,s,RUNS) && c[w].known && has(SLOW,it(w,s)) && c[w].over_limit==0 -> \
              if :: c[w].slot[s].fits -> c[w].over_limit=it(w,s)+1; c[w].over_limit_meant=1 \
                 :: else -> die(w,0) fi }
#define CALLS(w,s) \
  :: d_step { c[w].slot[s].step==SENT -> \
              c[w].slot[s].done=c[w].slot[s].fits; \
              call_of_worker(w,c[w].slot[s].call,it(w,s),c[w].slot[s].fits,c[w].slot[s].meant); \
              if :: c[w].alive -> c[w].slot[s].step=EXECUTED :: else -> clear(w,s) fi } \
  :: d_step { !c[w].alive && c[w].slot[s].step==SENT -> clear(w,s) } \
  :: d_step { at(w,s,EXECUTED) -> \
              if \
              :: c[w].slot[s].done && c[w].slot[s].call==WRITE -> \
                 c[w].slot[s].step=WRITTEN; c[w].slot[s].call=0; c[w].slot[s].done=0 \
              :: c[w].slot[s].done && c[w].slot[s].call==BEGIN -> \
                 runs(w,s); c[w].slot[s].call=0; c[w].slot[s].done=0 \
              :: else -> clear(w,s) \
              fi } \
  /* a copy stays behind on a dead connection; an answer is lost */ \
  :: d_step { at(w,s,SENT) && losses>0 && c[w].late_call==0 -> \
              losses--; c[w].late_call=c[w].slot[s].call; c[w].late_item=it(w,s); \
              c[w].late_fits=c[w].slot[s].fits; c[w].late_meant=c[w].slot[s].meant } \
  :: d_step { at(w,s,EXECUTED) && losses>0 -> \
              losses--; c[w].slot[s].done=0; c[w].slot[s].step=SENT }
#define forget_late_call(w) \
  c[w].late_call=0; c[w].late_item=0; c[w].late_fits=0; c[w].late_meant=0
#define LATE_CALLS(w) \
  :: d_step { c[w].late_call -> \
              call_of_worker(w,c[w].late_call,c[w].late_item,c[w].late_fits,c[w].late_meant); \
              forget_late_call(w) } \
  :: d_step { c[w].late_call -> forget_late_call(w) }

#define WORKER(w) \
  LIFE(w) CLAIMS(w) LATE_CALLS(w) STRAYS(w) \
  WAY(w,0) KILLS(w,0) CALLS(w,0) \
  WAY(w,1) KILLS(w,1) CALLS(w,1)

/* ---- producers, bells, operators, other tools ---- */
#ifdef NOBELL
#define BELL
#else
#define BELL \
  :: d_step { q -> SOMETHING_ELSE e=head(q); drop_head(q); push_tail(returned,e); one_place; e=0 }
#endif
#define WORLD \
  BELL \
  :: atomic { pushed!=ALL -> \
              SOMETHING_ELSE pick(ALL&~pushed); pushed=pushed|only(e); push_tail(q,e); e=0 } \
  :: atomic { parked -> \
              SOMETHING_ELSE pick(parked); parked=parked&~only(e); promote(e); one_place; e=0 } \
  /* hurry.lua is no step here: it changes the time, and what is parked may be due at any time */ \
  /* put_back.lua, from the head: what has no state yet */ \
  :: d_step { put_backs>0 && returned && !has(written,head(returned)) && \
              !deaths[head(returned)] -> \
              put_backs--; SOMETHING_ELSE e=head(returned); drop_head(returned); \
              push_head(q,e); one_place; e=0 } \
  /* a replay of any record at any time, executed any number of times */ \
  :: atomic { replays>0 && pushed==ALL -> \
              replays--; pick(ALL); SOMETHING_ELSE replay e=0; k=0; one_place } \
  :: atomic { replays>0 && dlq -> \
              replays--; pick(dlq); \
              if :: (dead&equal(e))==0 -> dlq=dlq&~only(e); forget_progress(e); push_tail(q,e) \
                 :: else fi; \
              one_place; e=0 } \
  :: atomic { tool_replays>0 && dlq -> \
              tool_replays--; pick(dlq); dlq=dlq&~only(e); forget_progress(e); push_tail(q,e); \
              one_place; e=0 } \
  :: atomic { sweeps>0 && dead -> sweeps--; pick(dead); dead=dead&~only(e); e=0 }

/* ---- a failover to a replica that lacks the last script ---- */
inline connections_break(w) {
  c[w].late_claim=0; c[w].late_is_current=0; forget_late_call(w);
  c[w].late_stray=0; c[w].late_strays=0; c[w].late_known=0
}
inline unclaim(w,x) {
  if :: c[w].slot[0].item==x -> c[w].slot[0].fits=0; c[w].slot[0].meant=0 :: else fi;
  if :: c[w].slot[1].item==x -> c[w].slot[1].fits=0; c[w].slot[1].meant=0 :: else fi;
  c[w].answer_fits = c[w].answer_fits & ~only(x);
  c[w].ran = c[w].ran & ~only(x)
}
#define settled_item ((last_settle-1)&3)
#define settled_by (((last_settle-1)>>2)&3)
#define FAILOVER \
  :: d_step { failovers>0 && last_settle && !has(known_to(0)|known_to(1),settled_item) && \
              c[settled_by].slot[0].item!=settled_item && \
              c[settled_by].slot[1].item!=settled_item -> \
              failovers--; e=settled_item; k=settled_by; \
              connections_break(0); connections_break(1); \
              settled=settled&~only(e); egressed=egressed&~only(e); c[k].held=c[k].held|only(e); \
              if :: last_settle>16 -> c[k].begun=c[k].begun|only(e) :: else fi; \
              SOMETHING_ELSE e=0; k=0; one_place } \
  :: d_step { failovers>0 && last_void -> failovers--; c[last_void-1].registration=REGISTERED; \
              connections_break(0); connections_break(1); SOMETHING_ELSE } \
  :: d_step { failovers>0 && last_forget -> failovers--; c[last_forget-1].registration=VOID; \
              connections_break(0); connections_break(1); SOMETHING_ELSE } \
  :: d_step { failovers>0 && last_register -> failovers--; c[last_register-1].registration=GONE; \
              connections_break(0); connections_break(1); SOMETHING_ELSE } \
  :: d_step { failovers>0 && last_claim -> \
              failovers--; k=last_claim-1; m=claim_took; \
              q=claim_q; returned=claim_returned; suspects=claim_suspects; \
              runs_suspect[host_of(k)]=claim_field; \
              c[k].held=c[k].held&~m; c[k].batch=c[k].batch&~m; \
              if :: has(m,0) -> unclaim(k,0) :: else fi; \
              if :: has(m,1) -> unclaim(k,1) :: else fi; \
              if :: N>2 && has(m,2) -> unclaim(k,2) :: else fi; \
              if :: c[k].claiming && c[k].executed -> \
                    c[k].executed=0; c[k].answered=0; c[k].answer=0; c[k].answer_fits=0; \
                    c[k].claim_sent=free_slots(k) :: else fi; \
              m=0; k=0; connections_break(0); connections_break(1); SOMETHING_ELSE one_place }

init {
  d_step {
    clear(0,0); clear(0,1); clear(1,0); clear(1,1);
    e=0;
    do
    :: e<N ->
       if
       :: has(SUSP0,e) -> suspect[e]=1; push_tail(suspects,e); pushed=pushed|only(e)
       :: !has(LATER,e) && !has(SUSP0,e) -> push_tail(q,e); pushed=pushed|only(e)
       :: else
       fi;
       e++
    :: else -> break
    od;
    e=0
  }
  do
  WORKER(0)
  WORKER(1)
  HOST(0)
#ifndef SAME
  HOST(1)
#endif
  WORLD
#if FO
  FAILOVER
#endif
  :: else -> break
  od;
  assert(finished)                 /* nothing can happen any more: nothing is left */
}
