import Testing

@testable import JobCore

@Suite struct HistoryBufferTests {
    private func buffer(_ changes: Int, bytes: Int = 1 << 20) -> HistoryBuffer {
        HistoryBuffer(bound: HistoryBuffer.Bound(changes: changes, bytes: bytes))
    }

    private let story = Story(1)
    private var line: JobChange { story.change(.reported(ReportLine(.daemon, "line"))) }

    @Test("below the bound everything is kept in its order")
    func order() {
        var buffer = buffer(10)
        for change in story.whole() {
            let isOverflow = buffer.add(change)
            #expect(!isOverflow)
        }
        #expect(buffer.take() == story.whole())
        #expect(buffer.isEmpty)
        #expect(buffer.takeDropped() == 0)
    }

    @Test("at the bound, lines and letters give way to the course of jobs, and the first that is left out is announced")
    func lesserFirst() {
        var buffer = buffer(4)
        var isOverflow: Bool
        isOverflow = buffer.add(story.opened)
        #expect(!isOverflow)
        isOverflow = buffer.add(line)
        #expect(!isOverflow)
        isOverflow = buffer.add(story.change(.status(.running)))
        #expect(!isOverflow)
        isOverflow = buffer.add(story.change(.attemptBegan(number: 1)))
        #expect(!isOverflow)
        isOverflow = buffer.add(line)
        #expect(isOverflow)
        isOverflow = buffer.add(story.change(.closed(.success)))
        #expect(!isOverflow)
        #expect(
            buffer.take() == [story.opened, story.change(.attemptBegan(number: 1)), story.change(.closed(.success))])
        #expect(buffer.takeDropped() == 3)
        #expect(buffer.offered == 6)
    }

    @Test("when only the course of jobs is left, the bound still holds")
    func hardBound() {
        var buffer = buffer(3)
        for number in 1...10 { _ = buffer.add(Story(number).opened) }
        #expect(buffer.take().map(\.job.number) == [1, 2, 3])
        #expect(buffer.takeDropped() == 7)
    }

    @Test("kept output counts by its bytes")
    func bytes() {
        var buffer = buffer(100, bytes: 1_000)
        var isOverflow: Bool
        let output = CapturedOutput(head: [UInt8](repeating: 0, count: 600))
        let run = ScriptRun(
            identity: nil, arguments: ["x"], ended: ScriptResult(termination: .exited(code: 0), output: output))
        isOverflow = buffer.add(story.step("one", script: run))
        #expect(!isOverflow)
        isOverflow = buffer.add(story.step("two", script: run))
        #expect(isOverflow)
        isOverflow = buffer.add(story.opened)
        #expect(!isOverflow)
        #expect(buffer.take().count == 2)
        #expect(buffer.takeDropped() == 1)
    }
}
