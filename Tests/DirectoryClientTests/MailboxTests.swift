import Dispatch
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
}
