import CLinux
import EventLoop
import Glibc
package import SystemPackage

/// Signals of this process, told on the event loop (signalfd(2)) instead of ending it. For the rest of the process's life.
///
/// They are blocked in the thread that asks for them and in all that it starts from then on, so it has to ask before there are others. Programs
/// that this process starts begin with no signal blocked.
@MainActor package final class ProcessSignals {
    /// Each signal that comes, for one listener; what comes before somebody listens waits.
    package nonisolated let received: AsyncStream<Int32>
    /// Which of them end the process at once, as they do where nobody asks for them.
    package var deadly: Set<Int32> = []
    private let next: AsyncStream<Int32>.Continuation

    /// Has the kernel keep signals until they are asked for.
    package nonisolated static func hold(_ numbers: Set<Int32>) {
        var mask = mask(numbers)
        pthread_sigmask(SIG_BLOCK, &mask, nil)
    }

    /// - Throws: where the limit on open files is reached.
    package init(_ numbers: Set<Int32>) throws(Errno) {
        (received, next) = AsyncStream.makeStream()
        Self.hold(numbers)
        var mask = Self.mask(numbers)
        let descriptor = signalfd(-1, &mask, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
        guard descriptor >= 0 else { throw Errno(rawValue: errno) }
        do throws(Errno) {
            try EventLoop.shared.watch(descriptor, for: .readable) { _ in self.take(from: descriptor) }
        } catch {
            close(descriptor)
            throw error
        }
    }

    private func take(from descriptor: Int32) {
        var signal = signalfd_siginfo()
        while read(descriptor, &signal, MemoryLayout<signalfd_siginfo>.size) > 0 {
            let number = Int32(signal.ssi_signo)
            if deadly.contains(number) { Self.end(by: number) }
            next.yield(number)
        }
    }

    private static func end(by number: Int32) {
        signal(number, SIG_DFL)
        var mask = mask([number])
        pthread_sigmask(SIG_UNBLOCK, &mask, nil)
        raise(number)
    }

    private nonisolated static func mask(_ numbers: Set<Int32>) -> sigset_t {
        var mask = sigset_t()
        sigemptyset(&mask)
        for number in numbers { sigaddset(&mask, number) }
        return mask
    }
}
