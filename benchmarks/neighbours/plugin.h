#ifndef TENSORFERRY_BENCHMARKS_NEIGHBOURS_PLUGIN_H_
#define TENSORFERRY_BENCHMARKS_NEIGHBOURS_PLUGIN_H_

#include <stddef.h>
#include <sys/uio.h>

// A neighbour whose headers come with a wheel of the throw-away environment:
// a library of its own, built there with the compiler alone, which the
// contestant program loads. No tensors, only pieces of memory; one end, one
// thread. What fails returns null or not 0, and plugin_error() says why.

extern "C" {

// Writes its address, a line of text, to `address`.
void* plugin_listen(char* address, size_t capacity);
int plugin_accept(void* end);
void* plugin_connect(const char* address);

// Returns when the receiver has said that it has all of them.
int plugin_send(void* end, const iovec* pieces, size_t count);
// Posts the memory that the next message goes to, then waits for it and tells
// the sender. The sizes are known to both.
int plugin_arm(void* end, const iovec* pieces, size_t count);
int plugin_take(void* end);

const char* plugin_error(void);

}  // extern "C"

#endif  // TENSORFERRY_BENCHMARKS_NEIGHBOURS_PLUGIN_H_
