import Dispatch
import Glibc
import Synchronization
import Testing

@testable import DirectoryClient

@Suite struct MailboxTests {
    @Test func `nothing is taken behind the closing, however many post at the same time`() throws {
        let closed = DirectoryError(.serverDown, operation: "close", server: "test")
        for _ in 0..<1_000 {
            let mailbox = try #require(Mailbox())
            let posted = Atomic(0)
            DispatchQueue.concurrentPerform(iterations: 3) { place in
                guard place > 0 else {
                    // The others must be at it, or there is no race.
                    while posted.load(ordering: .relaxed) < 20 {}
                    return mailbox.close(closed)
                }
                while mailbox.post(.resume) == nil { posted.add(1, ordering: .relaxed) }
            }
            guard case .close = mailbox.take().last else {
                Issue.record("a command stands behind the closing, where nobody looks at it")
                return
            }
        }
    }

    @Test func `every command wakes the thread, or is taken before it sleeps`() throws {
        let mailbox = try #require(Mailbox())
        let perPoster = 20_000
        let silent = Atomic(false)
        DispatchQueue.concurrentPerform(iterations: 3) { place in
            guard place == 0 else {
                for _ in 0..<perPoster { mailbox.post(.resume) }
                return
            }
            var taken = 0
            while taken < 2 * perPoster {
                var request = pollfd(fd: mailbox.descriptor, events: Int16(POLLIN), revents: 0)
                guard poll(&request, 1, 20_000) == 1 else { return silent.store(true, ordering: .relaxed) }
                taken += mailbox.take().count
                // As after messages, whose coming wakes the thread too.
                taken += mailbox.take().count
            }
        }
        let isSilent = silent.load(ordering: .relaxed)
        #expect(!isSilent, "commands wait, and nothing wakes the thread")
    }
}
