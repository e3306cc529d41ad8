// Bytes at the data port of a hub, with the real tensorpipe behind it. The
// first byte says whether they come from a stranger or from a peer that has
// proved the key, as frames: then each two bytes of length are followed by a
// packet.
#include <sys/socket.h>
#include <sys/time.h>
#include <tensorpipe/tensorpipe.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "transport/frame.h"
#include "transport/handshake.h"
#include "transport/hub.h"
#include "transport/sockets.h"

namespace tensorferry {
namespace {

template <class T>
T OrDie(absl::StatusOr<T> value) {
  if (!value.ok()) std::abort();
  return *std::move(value);
}

// One session of one hub, for all inputs. Never destroyed.
struct Port {
  Port() {
    hub = OrDie(Hub::Create({.loop = loop.get()}));
    auto expected =
        OrDie(hub->Expect(session, {Wire::kUnix}, absl::InfiniteFuture(), {}));
    address = ToSocketAddress(OrDie(ParseDataAddress(expected.addresses[0])));
    context.registerTransport(0, "f", expected.context);
    context.registerChannel(0, "basic", tensorpipe::channel::basic::create());
    listener = context.listen({"f://" + expected.listen});
    Accept();
  }
  void Accept() {
    listener->accept([this](const tensorpipe::Error& error,
                            std::shared_ptr<tensorpipe::Pipe> pipe) {
      if (error) std::abort();  // nothing a peer does may end the listener
      pipe->readDescriptor(
          [pipe](const tensorpipe::Error&, tensorpipe::Descriptor) {});
      Accept();
    });
  }

  const SessionKey session = {.session_id = "s", .key = "sixteen bytes..."};
  std::unique_ptr<PollLoop> loop = OrDie(PollLoop::Create());
  std::unique_ptr<Hub> hub;
  SocketAddress address;
  tensorpipe::Context context;
  std::shared_ptr<tensorpipe::Listener> listener;
  uint64_t number = 0;
};

void Say(int fd, absl::string_view bytes) {
  [[maybe_unused]] const ssize_t sent =
      send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

void Prove(Port& port, int fd) {
  ClientHandshake handshake(port.session, Wire::kUnix, ++port.number,
                            OrDie(RandomNonce()));
  while (true) {
    const auto output = handshake.output();
    Say(fd, {reinterpret_cast<const char*>(output.data()), output.size()});
    handshake.Sent(output.size());
    if (handshake.done()) return;
    uint8_t bytes[256];
    const ssize_t got = recv(fd, bytes, handshake.wanted(), MSG_WAITALL);
    if (got <= 0) return;  // not in time
    if (!handshake.Receive({bytes, static_cast<size_t>(got)}).ok()) {
      std::abort();
    }
  }
}

}  // namespace
}  // namespace tensorferry

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tensorferry;
  static auto* const port = new Port;
  if (size == 0 || size > 4096) return 0;
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect(fd.get(), port->address.get(), port->address.length) != 0) {
    std::abort();
  }
  // Some connections are taken and wait for others.
  const timeval patience{.tv_sec = 0, .tv_usec = 20000};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  absl::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 0) {
    Say(fd.get(), rest);
  } else {
    Prove(*port, fd.get());
    while (rest.size() >= 2) {
      const size_t length = std::min<size_t>(
          static_cast<uint8_t>(rest[0]) | static_cast<uint8_t>(rest[1]) << 8,
          rest.size() - 2);
      uint8_t header[FrameHeader::kBytes];
      EncodeFrameHeader({.kind = FrameKind::kPacket, .length = length}, header);
      Say(fd.get(), {reinterpret_cast<const char*>(header), sizeof(header)});
      Say(fd.get(), rest.substr(2, length));
      rest.remove_prefix(2 + length);
    }
  }
  shutdown(fd.get(), SHUT_WR);
  // Until the hub has made up its mind.
  char answer[4096];
  while (recv(fd.get(), answer, sizeof(answer), 0) > 0) {
  }
  if (port->hub->counters().tensorpipe_threw != 0) std::abort();
  return 0;
}
