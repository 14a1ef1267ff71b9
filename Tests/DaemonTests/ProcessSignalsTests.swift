import Glibc
import Testing

@testable import Daemon

struct ProcessSignalsTests {
    @Test @MainActor func `signals are told one by one, also those that came before somebody asked`() async throws {
        ProcessSignals.hold([SIGUSR1])
        // To the thread of the event loop: other threads of this process have not asked.
        pthread_kill(pthread_self(), SIGUSR1)
        let signals = try ProcessSignals([SIGUSR1, SIGUSR2])
        var received = signals.received.makeAsyncIterator()
        #expect(await received.next() == SIGUSR1)
        pthread_kill(pthread_self(), SIGUSR2)
        #expect(await received.next() == SIGUSR2)
    }
}
