import Testing

@testable import JobCore

@Suite struct HistoryQueueTests {
    private func queue(ended: Int = 10, pieces: Int = 10, bytes: Int = 1 << 20) -> HistoryQueue {
        var queue = HistoryQueue()
        queue.bound = HistoryQueue.Bound(ended: ended, pieces: pieces, bytes: bytes)
        return queue
    }

    private let story = Story(1)

    private func line(_ text: String = "line", of job: Story? = nil) -> HistoryQueue.Piece {
        let story = job ?? story
        return HistoryQueue.Piece(job: story.job.id, content: .line(story.line(text)))
    }

    private func output(_ count: Int) -> HistoryQueue.Piece {
        let output = CapturedOutput(head: [UInt8](repeating: 0, count: count))
        return HistoryQueue.Piece(job: story.job.id, content: .output(output, step: 0))
    }

    @Test("the writer is woken again after a write of lines has failed, and while jobs wait it is not")
    func wokenAgain() throws {
        var queue = queue()
        queue.add(line())
        let isFirst = queue.announce()
        let lines = queue.take()
        queue.putBack(try #require(lines))
        let waits = queue.stillWaits()
        queue.add(story.job)
        let isSecond = queue.announce()
        #expect(isFirst && !waits && isSecond)
        let jobs = queue.take()
        queue.putBack(try #require(jobs))
        let jobsWait = queue.stillWaits()
        let isThird = queue.announce()
        #expect(jobsWait && !isThird)
    }

    @Test(
        "the newest value of each job waits, in the order in which jobs first changed, and the writer is woken once"
    )
    func newest() throws {
        var queue = queue()
        let taken1 = queue.take()
        #expect(taken1 == nil)
        queue.add(Story(2).job)
        let isFirst = queue.announce()
        #expect(isFirst)
        queue.add(Story(1).job)
        queue.add(Story(2).began().job)
        queue.add(line())
        let isSecond = queue.announce()
        #expect(!isSecond)
        let waiting = queue.take()
        let batch = try #require(waiting)
        #expect(batch.jobs == [Story(2).began().job, Story(1).job])
        #expect(batch.pieces == [line()])
        let taken2 = queue.take()
        #expect(taken2 == nil)
        queue.add(Story(3).job)
        let isAgain = queue.announce()
        #expect(isAgain)
        #expect(queue.dropped == 0)
    }

    @Test("some jobs can be taken with their pieces before everything else, which keeps its order")
    func some() throws {
        var queue = queue(pieces: 4)
        for number in 1...4 { queue.add(Story(number).job) }
        queue.add(line())
        let (first, second) = (line("first", of: Story(3)), line("second", of: Story(3)))
        for piece in [first, line("other"), second] { queue.add(piece) }
        let some = queue.take([Story(3).job.id, Story(3).job.id, Story(9).job.id])
        #expect(some?.jobs == [Story(3).job] && some?.pieces == [first, second])
        queue.add(first)
        queue.add(second)
        #expect(queue.dropped == 0, "what was taken has left its room")
        let again = queue.take([Story(3).job.id])
        #expect(again == nil)
        let rest = queue.take()
        #expect(
            rest?.jobs == [1, 2, 4].map { Story($0).job } && rest?.pieces == [line(), line("other"), first, second])
        if let some { queue.putBack(some) }
        let back = queue.take()
        #expect(back?.jobs == [Story(3).job])
    }

    @Test("at the bound, lines are dropped for outputs, and dropped items are counted")
    func lines() throws {
        var queue = queue(pieces: 3)
        for _ in 0..<4 { queue.add(line()) }
        #expect(queue.dropped == 1)
        queue.add(output(1))
        #expect(queue.dropped == 4)
        let taken3 = queue.take()
        #expect(taken3?.pieces == [output(1)])
        let dropped = queue.takeDropped()
        #expect(dropped == 4 && queue.dropped == 0)
    }

    @Test(
        "outputs count by their bytes, and one that is larger than the bound is taken when nothing else waits"
    )
    func bytes() {
        var queue = queue(bytes: 1_000)
        queue.add(output(600))
        queue.add(output(600))
        #expect(queue.dropped == 1)
        let taken4 = queue.take()
        #expect(taken4?.pieces.count == 1)
        queue.add(output(2_000))
        let taken5 = queue.take()
        #expect(taken5?.pieces.count == 1)
        #expect(queue.dropped == 1)
    }

    @Test(
        "jobs that could not be written wait again, but replace no newer value, and ended ones are bounded"
    )
    func putBack() throws {
        var queue = queue(ended: 3)
        queue.add(Story(1).job)
        queue.add(Story(2).ended().job)
        queue.add(line())
        let waiting = queue.take()
        let batch = try #require(waiting)
        queue.add(Story(1).began().job)
        queue.add(Story(3).ended().job)
        queue.putBack(batch)
        #expect(queue.dropped == 1, "the line")
        for number in 4...6 { queue.add(Story(number).ended().job) }
        #expect(queue.dropped == 3)
        let taken6 = queue.take()
        #expect(
            taken6?.jobs == [
                Story(1).began().job, Story(2).ended().job, Story(3).ended().job, Story(4).ended().job,
            ])
    }

    @Test("the end of a job that the file has as open is never dropped, also of one of a previous run")
    func endsOfOpenJobs() throws {
        var queue = queue(ended: 1)
        let (written, interrupted, unwritten) = (Story(1), Story(2), Story(3))
        queue.add(written.job)
        if let batch = queue.take() { queue.wrote(batch) }
        _ = queue.interrupted([interrupted.job])
        queue.add(unwritten.job)
        if let batch = queue.take() { queue.putBack(batch) }
        for story in [Story(4), unwritten, interrupted, written] { queue.add(story.ended().job) }
        #expect(queue.dropped == 1, "the file has nothing of the third one")
        let waiting = queue.take()
        let batch = try #require(waiting)
        #expect(batch.jobs == [Story(4), interrupted, written].map { $0.ended().job })
        queue.putBack(batch)
        let again = queue.take()
        #expect(again?.jobs == batch.jobs)
    }

    @Test("a job that ends beyond the bound while its opening is being written does not stay open")
    func endDuringWrite() throws {
        var queue = queue(ended: 1)
        let waitsForRoom = Story(1).ended().job
        queue.add(Story(2).job)
        let taken = queue.take()
        let batch = try #require(taken)
        queue.add(waitsForRoom)
        queue.add(Story(2).ended().job)
        var failed = queue
        queue.wrote(batch)
        let written = queue.take()
        #expect(written?.jobs == [waitsForRoom, Story(2).ended().job])
        failed.putBack(batch)
        let unwritten = failed.take()
        #expect(unwritten?.jobs.contains { $0.isOpen } == false, "nothing says later that it runs")
    }

    @Test("for a new file every open job is written again, and no ended job that was written")
    func rewrite() throws {
        var queue = queue()
        queue.add(Story(1).began().job)
        queue.add(Story(2).ended().job)
        _ = queue.take()
        let interrupted = queue.interrupted([Story(1).job, Story(2).job])
        #expect(interrupted == [Story(2).job], "the other one is of this run")
        queue.rewrite()
        let taken7 = queue.take()
        #expect(taken7?.jobs == [Story(1).began().job])
    }

    @Test("additions after the close are ignored")
    func close() {
        var queue = queue()
        queue.close()
        queue.add(Story(1).job)
        queue.add(line())
        let taken8 = queue.take()
        #expect(taken8 == nil)
    }
}
