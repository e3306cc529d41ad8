#include "cuda/checked_connection.h"

#include <string>
#include <utility>

#include "absl/strings/string_view.h"

namespace tensorferry {
namespace {

using tensorpipe::AbstractNopHolder;
using tensorpipe::Error;

// A packet that is read only if `check` lets it.
class CheckedPacket final : public AbstractNopHolder {
 public:
  CheckedPacket(AbstractNopHolder& packet,
                std::function<bool(absl::string_view)> check)
      : packet_(packet), check_(std::move(check)) {}

  size_t getSize() const override { return packet_.getSize(); }
  nop::Status<void> write(tensorpipe::NopWriter& writer) const override {
    return packet_.write(writer);
  }
  nop::Status<void> read(tensorpipe::NopReader& reader) override {
    // The first region is the packet: ours come in one piece.
    const absl::string_view bytes(reinterpret_cast<const char*>(reader.ptr1),
                                  reader.len1);
    if (check_(bytes)) return packet_.read(reader);
    nop::Status<void> refusal;
    refusal.error = 1;  // any but 0
    return refusal;
  }

 private:
  AbstractNopHolder& packet_;
  const std::function<bool(absl::string_view)> check_;
};

class CheckedConnection final : public tensorpipe::transport::Connection {
 public:
  CheckedConnection(std::shared_ptr<Connection> connection,
                    SharedChannel* shared, std::function<int()> receiving_on,
                    std::function<void(absl::Status)> on_refused)
      : connection_(std::move(connection)), shared_(shared) {
    const auto& packets = shared_->checks().packets;
    if (!packets) return;
    check_ = [check = packets(), &connection = *connection_,
              receiving_on = std::move(receiving_on),
              on_refused = std::move(on_refused)](absl::string_view packet) {
      absl::Status status = check(connection, receiving_on(), packet);
      if (status.ok()) return true;
      on_refused(std::move(status));
      return false;
    };
  }
  ~CheckedConnection() override { connection_->close(); }

  void read(read_callback_fn fn) override {
    connection_->read(Entering(std::move(fn)));
  }
  void read(void* ptr, size_t length, read_callback_fn fn) override {
    connection_->read(ptr, length, Entering(std::move(fn)));
  }
  void write(const void* ptr, size_t length, write_callback_fn fn) override {
    connection_->write(ptr, length, Entering(std::move(fn)));
  }
  void read(AbstractNopHolder& object, read_nop_callback_fn fn) override {
    if (!check_) return connection_->read(object, Entering(std::move(fn)));
    auto packet = std::make_shared<CheckedPacket>(object, check_);
    connection_->read(*packet, [packet, fn = Entering(std::move(fn))](
                                   const Error& error) { fn(error); });
  }
  void write(const AbstractNopHolder& object, write_callback_fn fn) override {
    connection_->write(object, Entering(std::move(fn)));
  }
  void setId(std::string id) override { connection_->setId(std::move(id)); }
  void close() override { connection_->close(); }

 private:
  template <class... Args>
  std::function<void(Args...)> Entering(std::function<void(Args...)> fn) const {
    return [shared = shared_, fn = std::move(fn)](Args... args) {
      shared->Enter([&] { fn(args...); });
    };
  }

  const std::shared_ptr<Connection> connection_;
  SharedChannel* const shared_;
  // Outlives this in a packet, which the connection then still holds.
  std::function<bool(absl::string_view)> check_;
};

}  // namespace

std::shared_ptr<tensorpipe::transport::Connection> MakeChecked(
    std::shared_ptr<tensorpipe::transport::Connection> connection,
    SharedChannel* shared, std::function<int()> receiving_on,
    std::function<void(absl::Status)> on_refused) {
  return std::make_shared<CheckedConnection>(std::move(connection), shared,
                                             std::move(receiving_on),
                                             std::move(on_refused));
}

}  // namespace tensorferry
