/* tokens.pml: no two items ever have one token, and no item is held twice by one worker under one
 * number, for then the fence would let the calls of its first holding through (register.lua,
 * claim.lua, return.lua).
 *
 * WORKERS workers follow one another, each under a name of its own, and claim ITEMS items one by
 * one, LIMIT claims each. Registrations and claims leave copies on dead connections (LOST), which
 * arrive late: also after the worker's death, also when its registration has gone. A dead worker's
 * items go back and keep their tokens; a living one's are released or settled.
 *
 * A token is made at an item's first claim, of a name and the time, which never repeats here. Who
 * has been forgotten leaves a tombstone: no late registration brings its numbers back.
 */
#ifndef LOST
#define LOST 2
#endif
#define WORKERS 2
#define ITEMS 3
#define LIMIT 2
#define NONE 255

/* ---- Redis ---- */
byte registered[WORKERS] = NONE;   /* the number of its last claim */
byte holder[ITEMS] = NONE;         /* in whose hash it is, under its token */
bit settled[ITEMS];
short token[ITEMS];                /* for life; 0 before the first claim */
bit gone[WORKERS];                 /* tombstones */
byte held_as[ITEMS];               /* ghost: a bit for each worker and number that held it */
byte clock;

/* ---- workers, one after another, and copies of their calls ---- */
byte at_work = NONE, next, number;
bit late_register[WORKERS];
byte late_claim[WORKERS];          /* its number; 0: none */
byte losses = LOST;
byte e;

#ifdef M_NO_TOMBSTONE
#define is_gone(w) false
#else
#define is_gone(w) gone[w]
#endif
#ifdef M_TOKEN_NUMBER              /* it is made of the number of the claim */
#define mark(no) (no)
#else
#define mark(no) clock
#endif
#define same(a,b) ((a)!=(b) && token[a]!=0 && token[a]==token[b])
#define unique assert(!same(0,1) && !same(0,2) && !same(1,2))
#define holds(w) (holder[0]==(w) || holder[1]==(w) || holder[2]==(w))
#define waits(x) (holder[x]==NONE && !settled[x])
#define pick(what) if :: what(0) -> e=0 :: what(1) -> e=1 :: what(2) -> e=2 fi

inline register(w) { if :: registered[w]==NONE && !is_gone(w) -> registered[w]=0 :: else fi }
/* Takes one of what waits, if the number is higher than the registration's. */
inline claim(w,no) {
  if
  :: registered[w]!=NONE && no>registered[w] ->
     registered[w]=no; clock++;
     if
     :: waits(0) || waits(1) || waits(2) ->
        pick(waits); holder[e]=w;
        assert(!(held_as[e] & (1<<(w*LIMIT+no-1)))); held_as[e]=held_as[e] | (1<<(w*LIMIT+no-1));
        if :: token[e]==0 -> token[e]=64*(w+1)+mark(no) :: else fi;
        e=0; unique
     :: else
     fi
  :: else
  fi
}
#define is_held(x) (holder[x]==at_work)

#define DEAD(w) \
  :: d_step { late_register[w] -> late_register[w]=0; register(w) } \
  :: d_step { late_register[w] -> late_register[w]=0 } \
  :: atomic { late_claim[w] -> claim(w,late_claim[w]); late_claim[w]=0 } \
  :: d_step { late_claim[w] -> late_claim[w]=0 } \
  /* coordinators compare registrations with living children, again and again */ \
  :: d_step { at_work!=w && registered[w]!=NONE && holds(w) -> \
              if :: holder[0]==w -> holder[0]=NONE :: else -> \
                 if :: holder[1]==w -> holder[1]=NONE :: else -> holder[2]=NONE fi fi } \
  :: d_step { at_work!=w && registered[w]!=NONE && !holds(w) -> registered[w]=NONE; gone[w]=1 }

init {
  do
  /* a worker: registered by its supervisor, then claims by number, then dies */
  :: d_step { at_work==NONE && next<WORKERS -> \
              at_work=next; next++; number=0; register(at_work); \
              if :: losses>0 -> losses--; late_register[at_work]=1 :: else fi }
  :: atomic { at_work!=NONE && number<LIMIT && registered[at_work]!=NONE -> \
              number++; \
              if :: losses>0 && late_claim[at_work]==0 -> losses--; late_claim[at_work]=number \
                 :: true fi; \
              if :: claim(at_work,number) :: late_claim[at_work]==number -> skip fi }
  :: atomic { at_work!=NONE && holds(at_work) -> \
              pick(is_held); holder[e]=NONE; if :: settled[e]=1 :: true fi; e=0 }
  :: d_step { at_work!=NONE -> at_work=NONE }
  DEAD(0)
  DEAD(1)
  :: else -> break
  od;
  assert(at_work==NONE && !holds(0) && !holds(1))      /* all that is left waits for others */
}
