/* Which process this is: a page that the kernel empties in the child of a fork, also of one that C code makes. One load tells
   whether this is still the process that a core or a lock word was made in, which ``getpid`` would need the kernel for.  */

static volatile u64 *this_process;
static u64 last_generation;

/* Of this process; 0 and an exception where it cannot be told. */
static u64 this_generation(void) {
    if (this_process == NULL) {
        void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED || madvise(page, 4096, MADV_WIPEONFORK) != 0) {
            if (page != MAP_FAILED)
                munmap(page, 4096);
            PyErr_SetString(PyExc_OSError, "the kernel does not empty pages on fork");
            return 0;
        }
        this_process = page;
    }
    /* In a child this is 0, and what the parent's cores remember is never said again. */
    if (*this_process == 0)
        *this_process = ++last_generation;
    return *this_process;
}
