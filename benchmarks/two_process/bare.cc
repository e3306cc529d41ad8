#include "benchmarks/two_process/bare.h"

#include <ATen/ops/empty.h>
#include <tensorpipe/tensorpipe.h>

#include <cstring>
#include <utility>

#include "absl/synchronization/notification.h"
#include "base/status_macros.h"

namespace tensorferry::benchmarks {
namespace {

absl::Status ToStatus(const tensorpipe::Error& error) {
  return error ? absl::UnavailableError(error.what()) : absl::OkStatus();
}

std::shared_ptr<tensorpipe::Context> MakeContext(const std::string& path) {
  auto context = std::make_shared<tensorpipe::Context>();
  context->registerTransport(0, "uv", tensorpipe::transport::uv::create());
  if (path == "unix/local") {
    context->registerChannel(0, "cma", tensorpipe::channel::cma::create());
  } else {
    context->registerChannel(0, "basic", tensorpipe::channel::basic::create());
  }
  return context;
}

tensorpipe::CpuBuffer BufferOf(const at::Tensor& tensor) {
  return {.ptr = const_cast<void*>(tensor.const_data_ptr())};
}

tensorpipe::Message MessageOf(const std::vector<at::Tensor>& tensors) {
  tensorpipe::Message message;
  message.tensors.resize(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    message.tensors[i].buffer = BufferOf(tensors[i]);
    message.tensors[i].length = tensors[i].nbytes();
    message.tensors[i].targetDevice =
        tensorpipe::Device(tensorpipe::kCpuDeviceType, 0);
  }
  return message;
}

tensorpipe::Allocation AllocationOf(const std::vector<at::Tensor>& tensors) {
  tensorpipe::Allocation allocation;
  allocation.tensors.resize(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    allocation.tensors[i].buffer = BufferOf(tensors[i]);
  }
  return allocation;
}

void Gather(const std::vector<at::Tensor>& tensors, const at::Tensor& region) {
  auto* to = static_cast<std::byte*>(region.mutable_data_ptr());
  for (const at::Tensor& tensor : tensors) {
    std::memcpy(to, tensor.const_data_ptr(), tensor.nbytes());
    to += tensor.nbytes();
  }
}

void Scatter(const at::Tensor& region, const std::vector<at::Tensor>& tensors) {
  auto* from = static_cast<const std::byte*>(region.const_data_ptr());
  for (const at::Tensor& tensor : tensors) {
    std::memcpy(tensor.mutable_data_ptr(), from, tensor.nbytes());
    from += tensor.nbytes();
  }
}

// Views of `region` with the sizes of `like`, all float32.
std::vector<at::Tensor> Cut(const at::Tensor& region,
                            const std::vector<at::Tensor>& like) {
  std::vector<at::Tensor> views;
  views.reserve(like.size());
  int64_t begin = 0;
  for (const at::Tensor& tensor : like) {
    views.push_back(region.narrow(0, begin, tensor.numel()));
    begin += tensor.numel();
  }
  return views;
}

at::Tensor RegionFor(const Contents& contents) {
  return at::empty({contents.bytes / 4}, at::kFloat);
}

class BareSender : public Sender {
 public:
  BareSender(std::shared_ptr<tensorpipe::Context> context,
             std::shared_ptr<tensorpipe::Pipe> pipe, bool packed)
      : context_(std::move(context)), pipe_(std::move(pipe)), packed_(packed) {}

  absl::Status Send(const Contents& contents) override {
    absl::Notification answered, written;
    absl::Status answer, write;
    AwaitAnswer(answer, answered);
    pipe_->write(MakeMessage(contents), [&](const tensorpipe::Error& error) {
      write = ToStatus(error);
      written.Notify();
    });
    answered.WaitForNotification();
    written.WaitForNotification();
    FERRY_RETURN_IF_ERROR(write);
    return answer;
  }

 private:
  tensorpipe::Message MakeMessage(const Contents& contents) {
    if (!packed_) return MessageOf(contents.tensors);
    if (!region_.defined() ||
        static_cast<int64_t>(region_.nbytes()) != contents.bytes) {
      region_ = RegionFor(contents);
    }
    Gather(contents.tensors, region_);
    return MessageOf({region_});
  }

  void AwaitAnswer(absl::Status& answer, absl::Notification& answered) {
    pipe_->readDescriptor([&](const tensorpipe::Error& error,
                              const tensorpipe::Descriptor& descriptor) {
      if (error || descriptor.payloads.size() != 1) {
        answer = error ? ToStatus(error) : absl::InternalError("no answer");
        return answered.Notify();
      }
      pipe_->read({.payloads = {{&byte_}}, .tensors = {}},
                  [&](const tensorpipe::Error& error) {
                    answer = ToStatus(error);
                    answered.Notify();
                  });
    });
  }

  const std::shared_ptr<tensorpipe::Context> context_;
  const std::shared_ptr<tensorpipe::Pipe> pipe_;
  const bool packed_;
  at::Tensor region_;
  char byte_ = 0;
};

class BareReceiver : public Receiver {
 public:
  BareReceiver(std::shared_ptr<tensorpipe::Pipe> pipe, bool packed)
      : pipe_(std::move(pipe)), packed_(packed) {}

  void Arm(const Contents& like, bool reuse) override {
    taken_ = std::make_unique<absl::Notification>();
    pipe_->readDescriptor(
        [this, &like, reuse](const tensorpipe::Error& error,
                             const tensorpipe::Descriptor& descriptor) {
          if (error) return End(ToStatus(error));
          const size_t want = packed_ ? 1 : like.tensors.size();
          if (descriptor.tensors.size() != want) {
            return End(absl::InternalError("another message"));
          }
          Allocate(like, reuse);
          Read(like, reuse);
        });
  }

  absl::StatusOr<std::vector<at::Tensor>> Take() override {
    taken_->WaitForNotification();
    FERRY_RETURN_IF_ERROR(status_);
    region_ = reuse_region_ ? region_ : at::Tensor();
    return std::move(tensors_);
  }

 private:
  void Allocate(const Contents& like, bool reuse) {
    reuse_region_ = reuse;
    if (packed_) {
      const bool fits = region_.defined() &&
                        static_cast<int64_t>(region_.nbytes()) == like.bytes;
      if (!reuse || !fits) region_ = RegionFor(like);
    } else {
      tensors_ = reuse ? like.tensors : FreshLike(like.tensors);
    }
  }

  void Read(const Contents& like, bool reuse) {
    pipe_->read(packed_ ? AllocationOf({region_}) : AllocationOf(tensors_),
                [this, &like, reuse](const tensorpipe::Error& error) {
                  if (error) return End(ToStatus(error));
                  if (packed_) Unpack(like, reuse);
                  Answer();
                });
  }

  void Unpack(const Contents& like, bool reuse) {
    if (!reuse) {
      tensors_ = Cut(region_, like.tensors);
      return;
    }
    Scatter(region_, like.tensors);
    tensors_ = like.tensors;
  }

  void Answer() {
    tensorpipe::Message answer;
    answer.payloads.push_back({.data = &byte_, .length = 1, .metadata = ""});
    pipe_->write(std::move(answer), [this](const tensorpipe::Error& error) {
      End(ToStatus(error));
    });
  }

  void End(absl::Status status) {
    status_ = std::move(status);
    taken_->Notify();
  }

  const std::shared_ptr<tensorpipe::Pipe> pipe_;
  const bool packed_;
  at::Tensor region_;
  bool reuse_region_ = false;
  std::vector<at::Tensor> tensors_;
  absl::Status status_;
  std::unique_ptr<absl::Notification> taken_;
  char byte_ = 1;
};

class Listening : public BareListener {
 public:
  explicit Listening(std::shared_ptr<tensorpipe::Context> context)
      : context_(std::move(context)),
        listener_(context_->listen({"uv://127.0.0.1"})),
        url_(listener_->url("uv")) {}

  const std::string& url() const override { return url_; }

  absl::StatusOr<std::unique_ptr<Receiver>> Accept(bool packed) override {
    absl::Notification accepted;
    absl::Status status;
    std::shared_ptr<tensorpipe::Pipe> pipe;
    listener_->accept([&](const tensorpipe::Error& error,
                          std::shared_ptr<tensorpipe::Pipe> made) {
      status = ToStatus(error);
      pipe = std::move(made);
      accepted.Notify();
    });
    accepted.WaitForNotification();
    FERRY_RETURN_IF_ERROR(status);
    return std::make_unique<BareReceiver>(std::move(pipe), packed);
  }

 private:
  const std::shared_ptr<tensorpipe::Context> context_;
  const std::shared_ptr<tensorpipe::Listener> listener_;
  const std::string url_;
};

}  // namespace

std::unique_ptr<BareListener> BareListener::Create(const std::string& path) {
  return std::make_unique<Listening>(MakeContext(path));
}

std::unique_ptr<Sender> ConnectBare(const std::string& path,
                                    const std::string& url, bool packed) {
  auto context = MakeContext(path);
  auto pipe = context->connect(url);
  return std::make_unique<BareSender>(std::move(context), std::move(pipe),
                                      packed);
}

}  // namespace tensorferry::benchmarks
