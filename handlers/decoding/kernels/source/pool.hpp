// Threads that share one caller's loops. Chunks are taken, never assigned: a thread that the system holds back delays nobody.
#pragma once
#include <immintrin.h>
#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

class Pool {
  public:
    explicit Pool(int threads) {
        for (int i = 1; i < threads; i++) helpers_.emplace_back([this] { help(); });
    }

    ~Pool() {
        {
            std::lock_guard<std::mutex> hold(mutex_);
            ending_.store(true);
        }
        wake_.notify_all();
        for (auto &helper : helpers_) helper.join();
    }

    int threads() const { return static_cast<int>(helpers_.size()) + 1; }

    // Calls work(chunk) once for each of 0 … chunks-1 and returns when all are done. At most 2^15 chunks.
    template <class Work> void run(int chunks, const Work &work) {
        if (chunks <= 1 || helpers_.empty()) {
            for (int i = 0; i < chunks; i++) work(i);
            return;
        }
        call_ = [](const void *target, int chunk) { (*static_cast<const Work *>(target))(chunk); };
        target_ = &work;
        done_.store(0, std::memory_order_relaxed);
        ticket_.store((++epoch_ << 32) | (static_cast<uint64_t>(chunks) << 16));
        if (asleep_.load()) {
            std::lock_guard<std::mutex> hold(mutex_);
            wake_.notify_all();
        }
        while (take()) {
        }
        for (int spins = 0; done_.load(std::memory_order_acquire) != chunks; spins++) spins < patience ? _mm_pause() : yield();
    }

  private:
    static constexpr int patience = 2000;   // pauses before the caller offers its core to a helper that was held back
    static constexpr int vigil = 3000;      // pauses before an idle helper sleeps: some 50 to 100 microseconds

    static void yield() { sched_yield(); }

    // A ticket holds epoch (32 bits), chunks (16) and the next chunk (16), so that one addition takes a chunk of a known loop.
    bool take() {
        uint64_t seen = ticket_.load(std::memory_order_acquire);
        if ((seen & 0xffff) >= (seen >> 16 & 0xffff)) return false;
        seen = ticket_.fetch_add(1, std::memory_order_acq_rel);
        if ((seen & 0xffff) >= (seen >> 16 & 0xffff)) return false;
        call_(target_, static_cast<int>(seen & 0xffff));
        done_.fetch_add(1, std::memory_order_release);
        return true;
    }

    bool waiting() const {
        uint64_t seen = ticket_.load();
        return (seen & 0xffff) < (seen >> 16 & 0xffff);
    }

    void help() {
        int idle = 0;
        while (!ending_.load(std::memory_order_relaxed)) {
            if (take()) {
                idle = 0;
            } else if (++idle < vigil) {
                _mm_pause();
            } else {
                std::unique_lock<std::mutex> hold(mutex_);
                asleep_.fetch_add(1);
                wake_.wait(hold, [this] { return ending_.load() || waiting(); });
                asleep_.fetch_sub(1);
                idle = 0;
            }
        }
    }

    void (*call_)(const void *, int) = nullptr;
    const void *target_ = nullptr;
    uint64_t epoch_ = 0;
    alignas(64) std::atomic<uint64_t> ticket_{0};
    alignas(64) std::atomic<int> done_{0};
    alignas(64) std::atomic<int> asleep_{0};
    std::atomic<bool> ending_{false};
    std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<std::thread> helpers_;
};
