import JobCore
import TestSupport
import Testing

@Suite struct JobQueueTests {
    @Test("a clock that is set back moves what waits with it, and what is due stays due")
    func setBack() {
        let start = WallTime(secondsSince1970: 1_800_000_000)
        var queue = JobQueue<String>()
        queue.offer("late", due: start + .seconds(600))
        queue.offer("soon", due: start + .seconds(60))
        queue.offer("due", due: .distantPast)
        queue.clockWasSet(back: .seconds(86_400))
        let now = start + .seconds(-86_400)
        #expect(queue.nextDue() == now + .seconds(60))
        #expect(queue.start(now: now) == "due")
        #expect(queue.start(now: now) == nil)
        #expect(queue.start(now: now + .seconds(60)) == "soon")
        #expect(queue.nextDue() == now + .seconds(600))
        #expect(queue.start(now: now + .seconds(600)) == "late")
    }

    private let now = WallTime(secondsSince1970: 1_000)
    private func after(_ seconds: Int64) -> WallTime { now + .seconds(seconds) }

    @Test("a subject that is offered many times runs once")
    func offersMerge() {
        var queue = JobQueue<String>()
        for _ in 1...5 { queue.offer("a", due: now) }
        #expect(queue.start(now: now) == "a")
        #expect(queue.start(now: now) == nil)
    }

    @Test("a subject never runs twice at once, and an offer while it runs is kept for afterwards")
    func offerWhileRunning() {
        var queue = JobQueue<String>()
        queue.offer("a", due: now)
        #expect(queue.start(now: now) == "a")
        queue.offer("a", due: now)
        #expect(queue.start(now: now) == nil)
        queue.finish("a")
        #expect(queue.start(now: now) == "a")
        queue.finish("a")
        #expect(queue.start(now: now) == nil)
    }

    @Test("offers that only echoed the run itself do not run it again")
    func echoes() {
        var queue = JobQueue<String>()
        queue.offer("a", due: now)
        #expect(queue.start(now: now) == "a")
        queue.offer("a", due: now)
        queue.finish("a", ignoringOffers: true)
        #expect(queue.start(now: now) == nil)
        #expect(queue.waitingCount == 0)
    }

    @Test("what is offered to a turn that has not really begun is no reason for another")
    func forgottenOffers() {
        var queue = JobQueue<String>()
        queue.offer("a", due: now)
        #expect(queue.start(now: now) == "a")
        queue.offer("a", due: now)
        queue.forgetOffers(of: "a")
        #expect(queue.finish("a") == nil)
        queue.forgetOffers(of: "a")
        #expect(queue.start(now: now) == nil)
    }

    @Test("a due time is waited for, and the earlier of two holds")
    func dueTimes() {
        var queue = JobQueue<String>()
        queue.offer("a", due: after(100))
        #expect(queue.start(now: now) == nil)
        #expect(queue.nextDue() == after(100))
        queue.offer("a", due: after(50))
        queue.offer("a", due: after(70))
        #expect(queue.nextDue() == after(50))
        #expect(queue.start(now: after(49)) == nil)
        #expect(queue.start(now: after(50)) == "a")
        queue.finish("a")
        #expect(queue.nextDue() == nil)
    }

    @Test("among those that are due the smaller priority number goes first, then the earlier due time")
    func priorities() {
        var queue = JobQueue<String>()
        queue.offer("later", due: after(2))
        queue.offer("earlier", due: after(1))
        queue.offer("urgent", due: after(3), priority: 1)
        let order = (0..<3).compactMap { _ in queue.start(now: after(10)) }
        #expect(order == ["urgent", "earlier", "later"])
    }

    @Test("a run that asks for another look waits until then, unless somebody offered it meanwhile")
    func again() {
        var queue = JobQueue<String>()
        queue.offer("a", due: now)
        _ = queue.start(now: now)
        queue.finish("a", again: after(60))
        #expect(queue.start(now: after(59)) == nil)
        #expect(queue.start(now: after(60)) == "a")
        queue.offer("a", due: after(60))
        queue.finish("a", again: after(600))
        #expect(queue.start(now: after(60)) == "a")
    }

    @Test("when only the urgent may start, the others keep their places")
    func onlyUrgent() {
        var queue = JobQueue<String>()
        for name in ["a", "b", "c"] { queue.offer(name, due: .distantPast) }
        queue.offer("d", due: now)
        #expect(queue.start(now: now, priority: 1) == nil)
        #expect(queue.dueCount == 4)
        queue.offer("c", due: .distantPast, priority: 1)
        queue.offer("e", due: .distantPast)
        #expect(queue.start(now: now, priority: 1) == "c")
        #expect(queue.start(now: now, priority: 1) == nil)
        #expect((0..<5).map { _ in queue.start(now: now) } == ["a", "b", "d", "e", nil])
        #expect(queue.dueCount == 0)
    }

    @Test("one that was found to be due stays so when the clock is set back, and is nothing to be woken for")
    func foundDue() {
        var queue = JobQueue<String>()
        queue.offer("a", due: now)
        queue.offer("b", due: after(60))
        #expect(queue.nextDue() == now)
        #expect(queue.start(now: now, priority: 1) == nil)
        #expect(queue.nextDue() == after(60))
        queue.offer("a", due: now, priority: 5)
        #expect(queue.start(now: after(-100)) == "a")
        #expect(queue.waitingCount == 1)
    }

    @Test("one that is offered again and again while it waits for a far day still has its turn once, in time")
    func looksWhileWaiting() {
        var queue = JobQueue<Int>()
        for _ in 0..<1_000 {
            for subject in 0..<3 { queue.offer(subject, due: .distantPast) }
            while let subject = queue.start(now: now) {
                queue.finish(subject, again: after(Int64(100 * (subject + 1))))
            }
        }
        #expect(queue.waitingCount == 3)
        #expect(queue.dueCount == 0)
        for subject in 0..<3 {
            #expect(queue.nextDue() == after(Int64(100 * (subject + 1))))
            #expect(queue.start(now: after(Int64(100 * (subject + 1)))) == subject)
        }
    }

    @Test("whatever happens in whatever order, no subject runs twice")
    func randomWalk() {
        var generator = SeededGenerator(seed: 7)
        var queue = JobQueue<Int>()
        var running: Set<Int> = []
        var time = now
        for _ in 0..<20_000 {
            switch Int.random(in: 0..<4, using: &generator) {
            case 0:
                queue.offer(
                    .random(in: 0..<10, using: &generator),
                    due: time + .seconds(Int.random(in: 0..<20, using: &generator)),
                    priority: .random(in: 1...10, using: &generator))
            case 1:
                if let subject = queue.start(now: time, priority: .random(in: 1...12, using: &generator)) {
                    #expect(running.insert(subject).inserted)
                }
            case 2:
                if let subject = running.randomElement(using: &generator) {
                    running.remove(subject)
                    queue.finish(subject, again: Bool.random(using: &generator) ? time + .seconds(5) : nil)
                }
            default:
                time = time + .seconds(1)
            }
            #expect(queue.runningCount == running.count)
            #expect(0...queue.waitingCount ~= queue.dueCount)
        }
    }
}
