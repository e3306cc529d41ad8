#ifndef TENSORFERRY_TESTS_TRANSFER_RAW_PEER_H_
#define TENSORFERRY_TESTS_TRANSFER_RAW_PEER_H_

#include <tensorpipe/tensorpipe.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "transfer/frame_codec.h"
#include "transfer/rules.h"

namespace tensorferry {

// A peer that knows the frames but keeps no rule: bare tensorpipe, blocking.
class RawPeer {
 public:
  // Opens all lanes to an endpoint that expects them.
  static absl::StatusOr<std::unique_ptr<RawPeer>> Connect(
      const std::string& address, const std::string& key,
      const TransferRules& rules);
  ~RawPeer();

  void Send(const Frame& frame, const std::string& inline_bytes = "");
  void SendBytes(const std::string& frame_bytes);
  void SendBody(int lane, const BodyTag& tag,
                const std::vector<size_t>& piece_nbytes, bool target = true);
  void SendMessage(int lane, tensorpipe::Message message);
  // The next frame on lane 0.
  absl::StatusOr<Frame> Next();

 private:
  RawPeer() = default;
  absl::StatusOr<Frame> NextOn(int lane);

  std::unique_ptr<tensorpipe::Context> context_;
  std::vector<std::shared_ptr<tensorpipe::Pipe>> lanes_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TRANSFER_RAW_PEER_H_
