import Testing

@testable import JobCore

@Suite struct InboxTests {
    @Test("messages come in their order, be the reader there before or after them, also to a task that is cancelled")
    func order() async {
        let inbox = Inbox<Int>()
        inbox.post(0)
        let reader = Task {
            var read: [Int] = []
            while read.last != 99 { read.append(await inbox.next()) }
            return read
        }
        for number in 1..<50 { inbox.post(number) }
        reader.cancel()
        for number in 50..<100 {
            await Task.yield()
            inbox.post(number)
        }
        #expect(await reader.value == Array(0..<100))
    }
}
