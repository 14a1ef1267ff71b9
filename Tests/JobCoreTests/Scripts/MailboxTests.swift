import Testing

@testable import JobCore

@Suite struct MailboxTests {
    @Test("messages come in their order, be the reader there before or after them, also to a task that is cancelled")
    func order() async {
        let mailbox = Mailbox<Int>()
        mailbox.post(0)
        let reader = Task {
            var read: [Int] = []
            while read.last != 99 { read.append(await mailbox.next()) }
            return read
        }
        for number in 1..<50 { mailbox.post(number) }
        reader.cancel()
        for number in 50..<100 {
            await Task.yield()
            mailbox.post(number)
        }
        #expect(await reader.value == Array(0..<100))
    }
}
