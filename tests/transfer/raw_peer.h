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
// What it waits for and does not come is DEADLINE_EXCEEDED.
class RawPeer {
 public:
  // Opens all lanes to an endpoint that expects them.
  static absl::StatusOr<std::unique_ptr<RawPeer>> Connect(
      const std::string& address, const std::string& key,
      const TransferRules& rules);
  // One connection, "lane 0", without a word on it.
  static std::unique_ptr<RawPeer> ConnectSilently(const std::string& address);
  // Waits at `address()` for an endpoint that dials.
  static std::unique_ptr<RawPeer> Listen(const TransferRules& rules);
  ~RawPeer();

  const std::string& address() const { return address_; }
  // Takes the next connection as that of the lane that its HELLO names, and
  // leaves it unanswered.
  absl::StatusOr<HelloFrame> Accept();
  // What an honest peer says to that.
  HelloFrame Answer(const HelloFrame& hello) const;
  // All lanes, with honest answers.
  absl::Status AcceptAll();

  // On lane 0.
  void Send(const Frame& frame, const std::string& inline_bytes = "");
  void SendBytes(const std::string& frame_bytes);
  void SendOn(int lane, const Frame& frame);
  void SendBody(int lane, const BodyTag& tag,
                const std::vector<size_t>& piece_nbytes, bool target = true);
  void SendMessage(int lane, tensorpipe::Message message);
  void CloseLane(int lane);
  // The next frame on lane 0.
  absl::StatusOr<Frame> Next();
  // OK once the other side has ended the lane; it says no more there.
  absl::Status WaitForEndOf(int lane);

 private:
  RawPeer();
  absl::StatusOr<tensorpipe::Descriptor> NextDescriptor(tensorpipe::Pipe& pipe);
  absl::StatusOr<Frame> NextOn(tensorpipe::Pipe& pipe);

  std::unique_ptr<tensorpipe::Context> context_;
  std::shared_ptr<tensorpipe::Listener> listener_;
  std::string address_;
  std::vector<ChannelDescription> channels_;
  TransferRules rules_;
  std::vector<std::shared_ptr<tensorpipe::Pipe>> lanes_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TRANSFER_RAW_PEER_H_
