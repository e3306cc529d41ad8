#ifndef TENSORFERRY_TRANSPORT_TENSORPIPE_ABI_H_
#define TENSORFERRY_TRANSPORT_TENSORPIPE_ABI_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tensorferry {

// Whether the tensorpipe in this process has the interfaces that
// third_party/tensorpipe/plugin_interface.h declares: the order of their
// virtual functions, by name, the packets, by having some written and read, and
// buffers, by giving one to a channel. FAILED_PRECONDITION: it has not, and
// must not be given our transport or channel. The answer is worked out once.
absl::Status CheckTensorpipeAbi();

// One class of tensorpipe that implements an interface: its name, and those of
// its virtual functions in their order, as the compiler writes them
// ("mangled").
struct VirtualTable {
  std::string of;
  // Behind the class's; K in front: const; empty: any.
  std::vector<std::string> functions;
};
std::vector<VirtualTable> TensorpipeVirtualTables();
absl::Status CheckVirtualTable(const VirtualTable& expected);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_TENSORPIPE_ABI_H_
