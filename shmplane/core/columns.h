/* The columns that the core reads and stores to. Where each lies is said by Python's ``Table.declared`` at run time
   (``Core.__new__``); no layout is written here.  */

#define COLUMNS(X)                                                                                                     \
    X(Header, dirty) X(Header, holder) X(Header, destroyed) X(Header, scanned) X(Header, membership)                   \
    X(Header, blocks_high) X(Header, blocks_reserved) X(Header, segments_high) X(Header, segments_reserved)            \
    X(Header, names_high) X(Header, names_reserved) X(Header, free_blocks) X(Header, tombstones_head)                  \
    X(Header, tombstones_tail) X(Header, tombstones) X(Header, lost_version) X(Header, used_nbytes)                    \
    X(Header, recycled_nbytes) X(Header, moves) X(Header, live_blocks) X(Header, live_names) X(Header, watchers)       \
    X(Header, lingering) X(Header, expiring) X(Header, semaphores_high) X(Header, semaphores_reserved)                 \
    X(Header, recycle)                                                                                                 \
    X(Processes, state) X(Processes, coordinates) X(Processes, watching)                                               \
    X(Blocks, state) X(Blocks, kind) X(Blocks, generation) X(Blocks, owner) X(Blocks, segment) X(Blocks, offset)       \
    X(Blocks, cell) X(Blocks, body_nbytes) X(Blocks, stored_nbytes) X(Blocks, frame_nbytes) X(Blocks, frame_crc)       \
    X(Blocks, version) X(Blocks, created) X(Blocks, name) X(Blocks, linger) X(Blocks, expires) X(Blocks, until)        \
    X(Blocks, used) X(Blocks, group) X(Blocks, queue) X(Blocks, referenced) X(Blocks, next) X(Blocks, references)      \
    X(Segments, state) X(Segments, id) X(Segments, nbytes) X(Segments, slab) X(Segments, bump) X(Segments, place)      \
    X(Segments, cells) X(Segments, owner) X(Segments, exported) X(Segments, next) X(Recycled, first)                   \
    X(Names, word) X(Names, version) X(Names, length) X(Names, hash) X(Names, queued) X(Names, next)                   \
    X(Names, next_tombstone) X(Names, generation) X(Names, text)                                                       \
    X(Buckets, first)                                                                                                  \
    X(Classes, free) X(Classes, slab) X(Groups, policy)                                                                \
    X(Semaphores, state) X(Semaphores, permits) X(Semaphores, generation) X(Semaphores, awaited) X(Semaphores, freed)  \
    X(Header, next_ticket) X(Wakes, sequence)                                                                         \
    X(Counters, puts) X(Counters, gets) X(Counters, copied_nbytes) X(Counters, deletes) X(Counters, takes)             \
    X(Counters, permit_waits) X(Counters, permit_waited_ns)

#define NUMBER(table, column) table##_##column,
enum { COLUMNS(NUMBER) N_COLUMNS };
#define NAME(table, column) #table "." #column " "
static const char column_names[] = COLUMNS(NAME);

typedef struct {
    u64 *first;      /* of row 0 */
    u64 step, rows;  /* words from row to row */
} column;
