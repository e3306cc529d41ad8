#include <utility>

#include "benchmarks/neighbours/neighbour.h"
#include "benchmarks/two_process/bare.h"

namespace tensorferry::benchmarks {
namespace {

class BareAcceptor : public Acceptor {
 public:
  BareAcceptor(std::unique_ptr<BareListener> listener, bool packed)
      : listener_(std::move(listener)), packed_(packed) {}

  const std::string& address() const override { return listener_->url(); }
  absl::StatusOr<std::unique_ptr<Receiver>> Accept() override {
    return listener_->Accept(packed_);
  }

 private:
  const std::unique_ptr<BareListener> listener_;
  const bool packed_;
};

}  // namespace

Neighbour BareNeighbour(std::string path, bool packed) {
  return {.listen =
              [=] {
                return std::make_unique<BareAcceptor>(
                    BareListener::Create(path), packed);
              },
          .connect = [=](const std::string& url)
              -> absl::StatusOr<std::unique_ptr<Sender>> {
            return ConnectBare(path, url, packed);
          }};
}

}  // namespace tensorferry::benchmarks
