#ifndef TENSORFERRY_TESTS_TRANSFER_RAW_PEER_H_
#define TENSORFERRY_TESTS_TRANSFER_RAW_PEER_H_

#include <tensorpipe/tensorpipe.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "transfer/frame_codec.h"
#include "transfer/rules.h"
#include "transport/hub.h"
#include "transport/poll_loop.h"

namespace tensorferry {

// A peer that has the key and knows the frames but keeps no rule: bare
// tensorpipe over a hub, blocking. What it waits for and does not come is
// DEADLINE_EXCEEDED.
class RawPeer {
 public:
  // By name; tensorpipe's "basic" is always there.
  using Channels =
      std::map<std::string, std::shared_ptr<tensorpipe::channel::Context>>;

  // Opens all lanes to an endpoint that expects them.
  static absl::StatusOr<std::unique_ptr<RawPeer>> Connect(
      const std::vector<std::string>& addresses, const std::string& key,
      const TransferRules& rules, std::vector<GivenUpPath> given_up = {},
      const Channels& channels = {});
  // One connection, "lane 0", without a word on it.
  static std::unique_ptr<RawPeer> ConnectSilently(
      const std::vector<std::string>& addresses, const std::string& key,
      const TransferRules& rules);
  // Waits at `addresses()` for an endpoint that dials with `key()`.
  static std::unique_ptr<RawPeer> Listen(const TransferRules& rules);
  ~RawPeer();
  // One more connection to that endpoint, without a word on it.
  void OpenLane();

  const std::vector<std::string>& addresses() const { return addresses_; }
  static std::string key() { return std::string(16, 'k'); }
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
                const std::vector<size_t>& piece_nbytes, bool target = true,
                char byte = 'x');
  void SendMessage(int lane, tensorpipe::Message message);
  void CloseLane(int lane);
  // The next frame on lane 0.
  absl::StatusOr<Frame> Next();
  // OK once the other side has ended the lane; it says no more there.
  absl::Status WaitForEndOf(int lane);

 private:
  using Pipe = std::shared_ptr<tensorpipe::Pipe>;

  explicit RawPeer(const TransferRules& rules);
  template <class Call>
  void OnLoop(Call call);
  void MakeContext(std::shared_ptr<tensorpipe::transport::Context> transport,
                   Channels channels = {});
  void Dial(const std::string& address, const std::string& key,
            const Channels& channels = {});
  void Write(const Pipe& pipe, tensorpipe::Message message,
             std::shared_ptr<void> sent);
  absl::StatusOr<tensorpipe::Descriptor> NextDescriptor(const Pipe& pipe);
  absl::StatusOr<Frame> NextOn(const Pipe& pipe);

  const TransferRules rules_;
  std::unique_ptr<PollLoop> loop_ = *PollLoop::Create();
  std::unique_ptr<Hub> hub_;
  std::unique_ptr<tensorpipe::Context> context_;
  std::shared_ptr<tensorpipe::Listener> listener_;
  std::string address_;
  std::vector<std::string> addresses_;
  std::vector<ChannelDescription> channels_;
  std::vector<Pipe> lanes_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TRANSFER_RAW_PEER_H_
