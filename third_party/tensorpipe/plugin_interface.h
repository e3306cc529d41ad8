#ifndef TENSORFERRY_THIRD_PARTY_TENSORPIPE_PLUGIN_INTERFACE_H_
#define TENSORFERRY_THIRD_PARTY_TENSORPIPE_PLUGIN_INTERFACE_H_

// The interfaces of tensorpipe that a transport and a channel implement and are
// given, declared as tensorpipe does in headers that libtorch's package leaves
// out (tensorpipe/transport/connection.h, transport/listener.h,
// channel/channel.h, common/nop.h; commit 2b4cd91). The order of the virtual
// functions and the layout of the classes are what counts: this side and the
// compiled tensorpipe must agree. transport/tensorpipe_abi.h checks that they
// do.

#include <tensorpipe/common/buffer.h>
#include <tensorpipe/common/error.h>
#include <tensorpipe/transport/context.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace nop {

template <typename T>
struct Status;

// An enumeration of four bytes whose copy constructor is not trivial, so that
// it is returned through a hidden pointer.
template <>
struct Status<void> {
  Status() {}
  Status(const Status& other) : error(other.error) {}
  Status& operator=(const Status&) = default;
  bool has_error() const { return error != 0; }

  int error = 0;
};

}  // namespace nop

namespace tensorpipe {

// One region, or two where a ring wraps. Reading moves the pointers; nothing
// checks them against the end.
class NopReader final {
 public:
  const uint8_t* ptr1 = nullptr;
  size_t len1 = 0;
  const uint8_t* ptr2 = nullptr;
  size_t len2 = 0;
};

class NopWriter final {
 public:
  uint8_t* ptr1 = nullptr;
  size_t len1 = 0;
  uint8_t* ptr2 = nullptr;
  size_t len2 = 0;
};

// One of tensorpipe's own packets, which it writes and reads itself.
class AbstractNopHolder {
 public:
  virtual size_t getSize() const = 0;
  virtual nop::Status<void> write(NopWriter& writer) const = 0;
  virtual nop::Status<void> read(NopReader& reader) = 0;
  virtual ~AbstractNopHolder() = default;
};

namespace transport {

class Connection {
 public:
  using read_callback_fn =
      std::function<void(const Error& error, const void* ptr, size_t length)>;
  using write_callback_fn = std::function<void(const Error& error)>;
  using read_nop_callback_fn = std::function<void(const Error& error)>;

  virtual void read(read_callback_fn fn) = 0;
  virtual void read(void* ptr, size_t length, read_callback_fn fn) = 0;
  virtual void write(const void* ptr, size_t length, write_callback_fn fn) = 0;
  virtual void read(AbstractNopHolder& object, read_nop_callback_fn fn) = 0;
  virtual void write(const AbstractNopHolder& object, write_callback_fn fn) = 0;
  virtual void setId(std::string id) = 0;
  virtual void close() = 0;
  virtual ~Connection() = default;
};

class Listener {
 public:
  using accept_callback_fn = std::function<void(
      const Error& error, std::shared_ptr<Connection> connection)>;

  virtual void accept(accept_callback_fn fn) = 0;
  virtual std::string addr() const = 0;
  virtual void setId(std::string id) = 0;
  virtual void close() = 0;
  virtual ~Listener() = default;
};

}  // namespace transport

namespace channel {

using TSendCallback = std::function<void(const Error& error)>;
using TRecvCallback = std::function<void(const Error& error)>;

class Channel {
 public:
  virtual void send(Buffer buffer, size_t length, TSendCallback callback) = 0;
  virtual void recv(Buffer buffer, size_t length, TRecvCallback callback) = 0;
  virtual void setId(std::string id) = 0;
  virtual void close() = 0;
  virtual ~Channel() = default;
};

}  // namespace channel
}  // namespace tensorpipe

#endif  // TENSORFERRY_THIRD_PARTY_TENSORPIPE_PLUGIN_INTERFACE_H_
