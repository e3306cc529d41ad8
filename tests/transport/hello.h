#ifndef TENSORFERRY_TESTS_TRANSPORT_HELLO_H_
#define TENSORFERRY_TESTS_TRANSPORT_HELLO_H_

#include <algorithm>
#include <string>

#include "tests/transport/raw_peer.h"
#include "third_party/tensorpipe/plugin_interface.h"

namespace tensorferry {

// One of tensorpipe's packets: the hello of a connection.
class Hello final : public tensorpipe::AbstractNopHolder {
 public:
  size_t getSize() const override { return SpontaneousHello().size(); }
  nop::Status<void> write(tensorpipe::NopWriter& writer) const override {
    const std::string bytes = SpontaneousHello();
    std::copy(bytes.begin(), bytes.end(), writer.ptr1);
    writer.ptr1 += bytes.size();
    writer.len1 -= bytes.size();
    return {};
  }
  nop::Status<void> read(tensorpipe::NopReader& reader) override {
    reader.ptr1 += reader.len1;
    reader.len1 = 0;
    return {};
  }
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TRANSPORT_HELLO_H_
