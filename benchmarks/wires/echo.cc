#include "benchmarks/wires/echo.h"

#include <tensorpipe/tensorpipe.h>

#include <cstring>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"

namespace tensorferry::benchmarks {
namespace {

tensorpipe::Message MessageOf(std::string metadata, const char* memory,
                              size_t bytes) {
  tensorpipe::Message message;
  message.metadata = std::move(metadata);
  if (bytes == 0) return message;
  message.tensors.push_back(
      {.buffer = tensorpipe::CpuBuffer{.ptr = const_cast<char*>(memory)},
       .length = bytes,
       .targetDevice = tensorpipe::Device(tensorpipe::kCpuDeviceType, 0)});
  return message;
}

// One end of a pipe that reads a message into its memory.
class Reader {
 public:
  explicit Reader(std::shared_ptr<tensorpipe::Pipe> pipe)
      : pipe_(std::move(pipe)) {}

  // `done` gets the metadata and the number of bytes, or an error.
  using Done =
      std::function<void(const tensorpipe::Error&, std::string, size_t)>;
  void Read(std::vector<char>& memory, Done done) {
    pipe_->readDescriptor([this, &memory, done = std::move(done)](
                              const tensorpipe::Error& error,
                              tensorpipe::Descriptor descriptor) {
      if (error) return done(error, "", 0);
      tensorpipe::Allocation allocation;
      size_t bytes = 0;
      for (const auto& tensor : descriptor.tensors) {
        bytes = tensor.length;
        if (memory.size() < bytes) memory.resize(bytes);
        allocation.tensors.push_back(
            {.buffer = tensorpipe::CpuBuffer{.ptr = memory.data()}});
      }
      pipe_->read(
          std::move(allocation),
          [done, bytes, what = descriptor.metadata](
              const tensorpipe::Error& error) { done(error, what, bytes); });
    });
  }

 private:
  const std::shared_ptr<tensorpipe::Pipe> pipe_;
};

class EchoServer : public std::enable_shared_from_this<EchoServer> {
 public:
  explicit EchoServer(std::shared_ptr<tensorpipe::Pipe> pipe)
      : pipe_(pipe), reader_(std::move(pipe)) {}

  void Serve() {
    reader_.Read(memory_, [self = shared_from_this()](
                              const tensorpipe::Error& error,
                              const std::string& what, size_t bytes) {
      if (!error) self->Answer(what == kEcho ? bytes : 0);
    });
  }

 private:
  void Answer(size_t bytes) {
    pipe_->write(MessageOf("", memory_.data(), bytes),
                 [self = shared_from_this()](const tensorpipe::Error& error) {
                   if (!error) self->Serve();
                 });
  }

  const std::shared_ptr<tensorpipe::Pipe> pipe_;
  Reader reader_;
  std::vector<char> memory_;
};

absl::Status ToStatus(const tensorpipe::Error& error) {
  return error ? absl::UnavailableError(error.what()) : absl::OkStatus();
}

}  // namespace

void ServeEcho(WireEnd& end) {
  end.listener().accept([&end](const tensorpipe::Error& error,
                               std::shared_ptr<tensorpipe::Pipe> pipe) {
    if (error) return;
    std::make_shared<EchoServer>(std::move(pipe))->Serve();
    ServeEcho(end);
  });
}

EchoClient::EchoClient(WireEnd& end, size_t most_bytes)
    : pipe_(end.context().connect(end.url())), answer_(most_bytes) {}

absl::Status EchoClient::Ask(const char* what, const std::vector<char>& memory,
                             size_t bytes, bool check) {
  absl::Notification written, answered;
  absl::Status sent, answer;
  size_t got = 0;
  Reader reader(pipe_);
  reader.Read(answer_, [&](const tensorpipe::Error& error, const std::string&,
                           size_t answer_bytes) {
    answer = ToStatus(error);
    got = answer_bytes;
    answered.Notify();
  });
  pipe_->write(MessageOf(what, memory.data(), bytes),
               [&](const tensorpipe::Error& error) {
                 sent = ToStatus(error);
                 written.Notify();
               });
  written.WaitForNotification();
  answered.WaitForNotification();
  if (!sent.ok() || !answer.ok()) return sent.ok() ? answer : sent;
  const size_t expected = std::strcmp(what, kEcho) == 0 ? bytes : 0;
  if (got != expected) {
    return absl::DataLossError(
        absl::StrCat("an answer of ", got, " bytes, not ", expected));
  }
  if (check && std::memcmp(answer_.data(), memory.data(), got) != 0) {
    return absl::DataLossError("the echo differs from what was sent");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<absl::Duration>> EchoClient::AskFromCallbacks(
    const std::vector<char>& memory, size_t bytes, int count) {
  Reader reader(pipe_);
  std::vector<absl::Duration> times;
  absl::Status status;
  absl::Notification done;
  std::function<void()> ask = [&] {
    const absl::Time start = absl::Now();
    reader.Read(answer_, [&, start](const tensorpipe::Error& error,
                                    const std::string&, size_t) {
      times.push_back(absl::Now() - start);
      status = ToStatus(error);
      if (error || static_cast<int>(times.size()) == count) {
        return done.Notify();
      }
      ask();
    });
    // Its failure is the answer's, too.
    pipe_->write(MessageOf(kEcho, memory.data(), bytes),
                 [](const tensorpipe::Error&) {});
  };
  ask();
  done.WaitForNotification();
  if (!status.ok()) return status;
  return times;
}

}  // namespace tensorferry::benchmarks
