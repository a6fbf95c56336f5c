/* state.pml: where items are, what Redis knows of workers and hosts, and what a worker knows.
 *
 * Sequences (q, returned, suspects) are numbers in base 4, the head lowest, item i as digit i+1.
 * All other places are sets of items, as bit masks.
 */
#define ALL ((1<<N)-1)
#define NOBODY 7
#define has(set,i) (((set)>>(i))&1)
#define only(i) (1<<(i))
#define pick(set) if :: has(set,0) -> e=0 :: has(set,1) -> e=1 :: N>2 && has(set,2) -> e=2 fi

#define digit(s) ((s)&3 -> 1<<(((s)&3)-1) : 0)
#define set_of(s) (digit(s)|digit((s)>>2)|digit((s)>>4)|digit((s)>>6))
#define sum_of(s) (digit(s)+digit((s)>>2)+digit((s)>>4)+digit((s)>>6))
#define end_of(s) ((s)==0 -> 0 : ((s)<4 -> 2 : ((s)<16 -> 4 : 6)))
#define push_tail(s,i) s = s | (((i)+1)<<end_of(s))
#define push_head(s,i) s = (s<<2) | ((i)+1)
#define head(s) (((s)&3)-1)
#define drop_head(s) s = s>>2

/* ---- items ---- */
byte q, returned, suspects;        /* sequences */
byte parked, dlq, settled;         /* dlq: payloads */
byte dead;                         /* records of dead letters: no places, a payload may lack one */
byte egressed, pushed;
byte deaths[N];
bit suspect[N];
byte written, stored;              /* ghosts: its document is in Redis, in the storages */
byte outside_deaths[N];            /* ghost: begun when its worker died of something else */
byte own_deaths[N];                /* ghost: deaths that it caused */
#ifdef M_BEGUN_STAYS
byte once_begun;
#endif

#define innocent(i) (!has(POISON|PSTORE|HOSTP|SLOW|PPARK,i))

/* ---- one of a worker's two slots ---- */
#define FREE 0
#define HELD 1
#define RUNS 2
#define WRITTEN 3
#define STORED 4
#define REFUSED 5                  /* it must not run: the worker dead-letters it */
#define SENT 8                     /* a call of the slot is on its way */
#define EXECUTED 9                 /* and was executed; the answer is on its way */

#define SETTLE 1                   /* the calls */
#define PARK 2
#define DEADLETTER 3
#define REFUSE 4                   /* a dead letter, too, of what has not begun */
#define RELEASE 5
#define WRITE 6
#define BEGIN 7

typedef Slot {
  byte item; byte step; byte call;
  bit fits;                        /* Redis would find this token under this epoch */
  bit meant;                       /* ghost: it is still the very holding that is meant */
  bit done                         /* what the executed call answers: not lost */
};

/* ---- a worker: in Redis, in the eyes of its household, and by its own word ---- */
#define GONE 0
#define VOID 1
#define REGISTERED 2

typedef Worker {
  byte registration; byte held; byte begun;       /* Redis */
  bit alive;
  bit known;           /* its own supervisor and coordinator live, and have its page */
  bit killed_outside;  /* ghost: its death was none of its items' doing */
  bit ours;            /* our own kill: counts nothing */
  byte over_limit;        /* item+1 that was killed for its own time limit */
  bit over_limit_meant;   /* ghost: it is still held as it was then */
  byte page;           /* what its page showed running when it died */
  byte ran;            /* ghost: of what it holds, what its links have begun on */
  bit order;           /* STEWK: its death is in the supervisor's order book, unacknowledged */
  bit told;            /* the coordinator of now has been told */
  byte once;           /* M_BEGUN_NOEPOCH, ghost: begun in the epoch that is meant */
  Slot slot[2];
  /* the claim: one at a time, repeated under its number until answered */
  bit claiming; byte claim_sent; bit says_empty;
  bit answered; byte answer; byte answer_fits; bit answer_void;
  bit executed; byte batch;                       /* this number in Redis: done, and what it took */
  /* copies on dead connections */
  byte late_claim; bit late_is_current;
  byte late_call; byte late_item; bit late_fits; bit late_meant;
  bit late_stray; byte late_strays; byte late_known
};
Worker c[2];

#ifdef SAME
#define host_of(w) 0
#define on_host(h,w) ((h)==0)
#else
#define host_of(w) (w)
#define on_host(h,w) ((h)==(w))
#endif
bit listed[2];         /* in conserver:hosts */
bit reaping[2];
byte runs_suspect[2];  /* the field of the host's hash: 0, or 1 + 4*worker + item */

byte m, e, k; bit counts, showed;                 /* scratch, zero between steps */

/* ---- what must hold after every step ---- */
#define places (sum_of(q)+sum_of(returned)+sum_of(suspects)+c[0].held+c[1].held+parked+dlq+settled)
#define anywhere \
  (set_of(q)|set_of(returned)|set_of(suspects)|c[0].held|c[1].held|parked|dlq|settled)
/* The masks add up only if no item is in two of them. */
#define one_place assert(places == pushed && anywhere == pushed)

/* ---- reading it ---- */
#define free_slots(w) ((c[w].slot[0].step==FREE -> 1 : 0)+(c[w].slot[1].step==FREE -> 1 : 0))
#define holds_nothing(w) (c[w].slot[0].step==FREE && c[w].slot[1].step==FREE)
#define waits_for_answer(w) (c[w].slot[0].step>=SENT || c[w].slot[1].step>=SENT)
#define known_to(w) ((c[w].slot[0].fits -> only(c[w].slot[0].item) : 0) | \
                     (c[w].slot[1].fits -> only(c[w].slot[1].item) : 0))
#define quiet(w) (c[w].late_claim==0 && c[w].late_call==0 && c[w].late_stray==0 && holds_nothing(w))
#define finished (pushed==ALL && (settled|dlq)==ALL)

/* The suspect that the host runs; a field whose item is no longer held says nothing. */
#define field_worker(h) ((runs_suspect[h]-1)>>2)
#define field_item(h) ((runs_suspect[h]-1)&3)
#ifdef M_FIELD_STICKY              /* the field stays when its item has gone with its worker */
#define runs_one(h) (runs_suspect[h]!=0)
#elif defined(M_NO_FIELD)          /* nobody looks at the field */
#define runs_one(h) false
#else
#define runs_one(h) (runs_suspect[h]!=0 && has(c[field_worker(h)].held,field_item(h)))
#endif
#if defined(M_FIELD_STICKY) || defined(M_NO_FIELD)
#define holds_suspect(w) ((c[w].held&1 && suspect[0]) || (c[w].held&2 && suspect[1]) || \
                          (N>2 && c[w].held&4 && suspect[N-1]))
#else
#define holds_suspect(w) (runs_one(host_of(w)) && field_worker(host_of(w))==w)
#endif
#ifdef M_VOID_CLAIMS               /* a void registration may claim */
#define may_claim(w) true
#else
#define may_claim(w) (c[w].registration==REGISTERED)
#endif
/* Holding nothing is asked of Redis and of the worker. */
#ifdef M_ALONE_A                   /* a suspect is given to a worker that holds something */
#define gets_suspect(w) (suspects!=0 && !runs_one(host_of(w)))
#elif defined(L_HLEN)              /* only Redis is asked */
#define gets_suspect(w) (suspects!=0 && !runs_one(host_of(w)) && c[w].held==0)
#elif defined(M_EMWORD)            /* only the worker is asked: harmless without failovers */
#define gets_suspect(w) (suspects!=0 && !runs_one(host_of(w)) && c[w].says_empty)
#else
#define gets_suspect(w) \
  (suspects!=0 && !runs_one(host_of(w)) && c[w].held==0 && c[w].says_empty)
#endif

/* ---- a failover can undo the last script: a settle, a registration, a claim, a void ---- */
byte last_settle, last_register, last_claim, last_void, last_forget;
byte claim_took, claim_q, claim_returned, claim_suspects, claim_field;
#if FO
#define SOMETHING_ELSE last_settle=0; last_register=0; last_claim=0; last_void=0; last_forget=0; \
  claim_took=0; claim_q=0; claim_returned=0; claim_suspects=0; claim_field=0;
#else
#define SOMETHING_ELSE
#endif
