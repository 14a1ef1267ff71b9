import TestSupport
import Testing

@testable import JobCore

@Suite struct AdmissionQueueTests {
    private typealias Queue = AdmissionQueue<String>

    private func waiting(_ ticket: Queue.Ticket?) throws -> Queue.Ticket { try #require(ticket) }

    private func subject(_ name: String) -> JobSubject { JobSubject(name) }

    @Test("of those that wait for one subject the most urgent begins, then whoever asked first, one at each end")
    func orderOnOneSubject() throws {
        var queue = Queue(limit: nil)
        let lanes = [queue.makeLane(slots: 9), queue.makeLane(slots: 9)]
        #expect(queue.ask(subject("s"), in: lanes[0], priority: 10, "holder") == nil)
        for (place, (name, priority)) in [("c", 20), ("a1", 5), ("b", 10), ("a2", 5)].enumerated() {
            #expect(queue.ask(subject("s"), in: lanes[place % 2], priority: priority, name) != nil)
        }
        var order: [[String]] = []
        for _ in 0..<5 { order.append(queue.leave(subject("s"))) }
        #expect(order == [["a1"], ["a2"], ["b"], ["c"], []])
    }

    @Test("at the limit on all the most urgent of all lanes begins, whichever lane the end was in")
    func orderAtTheLimit() {
        var queue = Queue(limit: 1)
        let (one, other) = (queue.makeLane(slots: 9), queue.makeLane(slots: 9))
        #expect(queue.ask(subject("0"), in: one, priority: 10, "0") == nil)
        // Its own lane would fill the place again and again.
        for number in 1...3 { #expect(queue.ask(subject("\(number)"), in: one, priority: 10, "\(number)") != nil) }
        #expect(queue.ask(subject("late"), in: other, priority: 10, "late") != nil)
        #expect(queue.ask(subject("urgent"), in: other, priority: 1, "urgent") != nil)
        var order: [String] = []
        var running = ["0"]
        while let name = running.popLast() {
            running = queue.leave(subject(name))
            #expect(running.count <= 1)
            order += running
        }
        #expect(order == ["urgent", "1", "2", "3", "late"])
    }

    @Test("a full lane holds up neither other lanes nor, for others, the subjects that its own jobs wait for")
    func fullLane() {
        var queue = Queue(limit: nil)
        let (small, large) = (queue.makeLane(slots: 1), queue.makeLane(slots: 9))
        #expect(queue.ask(subject("long"), in: small, priority: 10, "long") == nil)
        #expect(queue.ask(subject("account"), in: large, priority: 10, "first") == nil)
        #expect(queue.ask(subject("account"), in: small, priority: 1, "backup") != nil)
        #expect(queue.leave(subject("account")) == [])
        #expect(queue.ask(subject("account"), in: large, priority: 10, "second") == nil)
        #expect(queue.leave(subject("long")) == [])
        #expect(queue.leave(subject("account")) == ["backup"])
    }

    @Test(
        "of one lane's jobs that wait for the same subject the smallest rank begins first, whatever their priorities; other subjects lose no place by it"
    )
    func ranks() throws {
        var queue = Queue(limit: nil)
        let lane = queue.makeLane(slots: 1)
        #expect(queue.ask(subject("h"), in: lane, priority: 10, "holder") == nil)
        for (name, rank) in [("s", 5), ("t", 5), ("s", 3), ("u", 5), ("s", 2), ("t", 4)] {
            #expect(queue.ask(subject(name), in: lane, priority: 10, rank: rank, "\(name)\(rank)") != nil)
        }
        var order: [String] = []
        var running = ["h"]
        while let name = running.popLast() {
            running = queue.leave(subject("\(name.prefix(1))"))
            order += running
        }
        #expect(order == ["s2", "t4", "s3", "u5", "s5", "t5"])

        #expect(queue.ask(subject("h"), in: lane, priority: 10, "holder") == nil)
        #expect(queue.ask(subject("s"), in: lane, priority: 1, rank: 5, "s5") != nil)
        #expect(queue.ask(subject("s"), in: lane, priority: 10, rank: 2, "s2") != nil)
        #expect(queue.leave(subject("h")) == ["s2"])
    }

    @Test("while one of a smaller rank waits in another lane for a subject, none of a larger rank begins on it")
    func rankOfAnotherLane() throws {
        var queue = Queue(limit: nil)
        let (first, second) = (queue.makeLane(slots: 1), queue.makeLane(slots: 9))
        #expect(queue.ask(subject("long"), in: first, priority: 10, "long") == nil)
        #expect(queue.ask(subject("s"), in: second, priority: 10, rank: 5, "holder") == nil)
        let before = try waiting(queue.ask(subject("s"), in: second, priority: 10, rank: 5, "before"))
        let preceding = try waiting(queue.ask(subject("s"), in: first, priority: 10, rank: 0, "preceding"))
        #expect(queue.leave(subject("s")) == [])
        #expect(queue.obstacle(of: before) == .subject)
        #expect(queue.obstacle(of: preceding) == .room)
        let after = try waiting(queue.ask(subject("s"), in: second, priority: 1, rank: 5, "after"))
        #expect(queue.obstacle(of: after) == .subject)
        queue.setAside { queue in
            #expect(queue.leave(subject("long")) == ["preceding"])
            #expect(queue.leave(subject("s")) == ["after"])
        }
        #expect(queue.withdraw(preceding) == ["after"], "nothing goes before it any more")
        #expect(queue.leave(subject("s")) == ["before"])
    }

    @Test("one that becomes more urgent takes its place among the urgent ones, and nobody begins by it")
    func hastened() throws {
        var queue = Queue(limit: nil)
        let lane = queue.makeLane(slots: 1)
        #expect(queue.ask(subject("h"), in: lane, priority: 10, "holder") == nil)
        #expect(queue.ask(subject("a"), in: lane, priority: 10, "a") != nil)
        let b = try waiting(queue.ask(subject("b"), in: lane, priority: 10, "b"))
        let h = try waiting(queue.ask(subject("h"), in: lane, priority: 10, "h"))
        queue.hasten(b, to: 1)
        queue.hasten(h, to: 2)
        queue.hasten(b, to: 9)
        #expect(queue.leave(subject("h")) == ["b"])
        #expect(queue.leave(subject("b")) == ["h"])
        #expect(queue.leave(subject("h")) == ["a"])
        #expect(queue.leave(subject("a")) == [])
    }

    @Test("one that waits no longer keeps nobody else waiting")
    func withdrawn() throws {
        var queue = Queue(limit: nil)
        let lane = queue.makeLane(slots: 2)
        #expect(queue.ask(subject("s"), in: lane, priority: 10, "holder") == nil)
        #expect(queue.ask(subject("t"), in: lane, priority: 10, "other") == nil)
        let first = try waiting(queue.ask(subject("s"), in: lane, priority: 1, "first"))
        let second = try waiting(queue.ask(subject("s"), in: lane, priority: 2, "second"))
        #expect(queue.ask(subject("s"), in: lane, priority: 3, "third") != nil)
        queue.setAside { queue in #expect(queue.leave(subject("s")) == ["first"]) }
        // In the line for a slot, the subject being free: the next of the subject takes its place there.
        #expect(queue.setSlots(1, of: lane) == [])
        #expect(queue.leave(subject("s")) == [])
        #expect(queue.withdraw(first) != nil)
        #expect(queue.withdraw(first) == nil)
        #expect(queue.obstacle(of: first) == nil)
        #expect(queue.obstacle(of: second) == .room)
        #expect(queue.leave(subject("t")) == ["second"])
        #expect(queue.withdraw(second) == nil)
        #expect(queue.leave(subject("s")) == ["third"])
    }

    @Test("one that waits can tell what for at every moment: its subject, room, or more urgent ones")
    func obstacles() throws {
        var queue = Queue(limit: 1)
        let lane = queue.makeLane(slots: 9)
        #expect(queue.ask(subject("s"), in: lane, priority: 10, "holder") == nil)
        let same = try waiting(queue.ask(subject("s"), in: lane, priority: 10, "same"))
        let other = try waiting(queue.ask(subject("t"), in: lane, priority: 10, "other"))
        #expect(queue.obstacle(of: same) == .subject)
        #expect(queue.obstacle(of: other) == .room)
        let urgent = try waiting(queue.ask(subject("u"), in: lane, priority: 1, "urgent"))
        #expect(queue.obstacle(of: other) == .moreUrgent)
        #expect(queue.leave(subject("s")) == ["urgent"])
        #expect(queue.obstacle(of: urgent) == nil)
        #expect(queue.obstacle(of: same) == .room)
        #expect(queue.setLimit(2) == ["same"])
        #expect(queue.setLimit(nil) == ["other"])
    }

    @Test("however many wait for one subject, an end begins one and looks at no other")
    func manyOnOneSubject() {
        var queue = Queue(limit: nil)
        let lane = queue.makeLane(slots: 8)
        for number in 0..<20_000 { _ = queue.ask(subject("s"), in: lane, priority: number % 7, "\(number)") }
        var last = (priority: 0, number: -1)
        for _ in 1..<20_000 {
            let begun = queue.leave(subject("s"))
            guard begun.count == 1, let number = Int(begun[0]) else {
                Issue.record("\(begun)")
                return
            }
            #expect((number % 7, number) > last)
            last = (number % 7, number)
        }
        #expect(queue.leave(subject("s")) == [])
    }

    @Test(
        "whatever happens in whatever order: no subject twice, all limits and ranks hold, nobody who could begin waits, and all begin",
        arguments: [1, 4])
    func randomWalk(ranks: Int) {
        var generator = SeededGenerator(seed: 11)
        var queue = AdmissionQueue<Int>(limit: 5)
        let lanes = [queue.makeLane(slots: 2), queue.makeLane(slots: 4), queue.makeLane(slots: 3)]
        let slots = [2, 4, 3]
        struct Asked {
            var lane: Int
            var subject: Int
            var priority: Int
            var rank: Int
            var ticket: AdmissionQueue<Int>.Ticket?
        }
        var waiting: [Int: Asked] = [:]
        var running: [Int: Asked] = [:]
        func couldBegin(_ asked: Asked) -> Bool {
            !running.values.contains { $0.subject == asked.subject } && running.count < 5
                && running.values.count { $0.lane == asked.lane } < slots[asked.lane]
                && !waiting.values.contains {
                    $0.subject == asked.subject && $0.lane != asked.lane && $0.rank < asked.rank
                }
        }
        func begin(_ begun: [Int]) {
            for id in begun {
                guard let asked = waiting.removeValue(forKey: id) else {
                    Issue.record("\(id) did not wait")
                    continue
                }
                #expect(couldBegin(asked))
                let better = waiting.filter {
                    guard couldBegin($0.value) else { return false }
                    guard $0.value.subject == asked.subject, $0.value.lane == asked.lane else {
                        // With ranks places are exchanged, and the order of subjects is another test's.
                        return ranks == 1 && ($0.value.priority, $0.key) < (asked.priority, id)
                    }
                    return ($0.value.rank, $0.value.priority, $0.key) < (asked.rank, asked.priority, id)
                }
                #expect(better.isEmpty)
                running[id] = asked
            }
        }
        for id in 0..<6_000 {
            var asked = Asked(
                lane: .random(in: 0..<3, using: &generator), subject: .random(in: 0..<8, using: &generator),
                priority: .random(in: 1...4, using: &generator), rank: .random(in: 0..<ranks, using: &generator))
            let could = couldBegin(asked)
            asked.ticket = queue.ask(
                subject("\(asked.subject)"), in: lanes[asked.lane], priority: asked.priority, rank: asked.rank, id)
            #expect((asked.ticket == nil) == could)
            if asked.ticket == nil { running[id] = asked } else { waiting[id] = asked }
            if Int.random(in: 0..<9, using: &generator) == 0, let gone = waiting.keys.randomElement(using: &generator) {
                if let ticket = waiting.removeValue(forKey: gone)?.ticket { begin(queue.withdraw(ticket) ?? [gone]) }
            }
            while running.count > 2 || waiting.count > 40, let ended = running.keys.randomElement(using: &generator),
                let asked = running.removeValue(forKey: ended)
            {
                begin(queue.leave(subject("\(asked.subject)")))
                #expect(!waiting.values.contains(where: couldBegin))
                if Bool.random(using: &generator) { break }
            }
        }
        while let (id, asked) = running.first {
            running[id] = nil
            begin(queue.leave(subject("\(asked.subject)")))
        }
        #expect(waiting.isEmpty)
    }
}

extension AdmissionQueue {
    /// Tries something without its being so.
    fileprivate func setAside(_ body: (inout Self) -> Void) {
        var copy = self
        body(&copy)
    }
}
