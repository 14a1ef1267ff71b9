import FoundationEssentials
import TestSupport
import Testing

@testable import JobCore

@Suite struct SchedulerTests {
    /// An object, since expectations cannot contain calls that change a value.
    private final class Jobs {
        var value: Scheduler

        init(_ classes: [JobClass] = [JobClass(limit: 100)], limit: Int? = nil) {
            value = Scheduler(limit: limit, calendar: .utc)
            for settings in classes { _ = value.addClass(settings) }
        }

        func offer(_ item: Scheduler.Item) { value.offer(item) }
        @discardableResult func withdraw(_ key: String) -> Bool { value.withdraw(.job(id(key))) }
        func status(of key: String) -> JobStatus? { value.status(of: .job(id(key))) }
        func nextDue() -> Timestamp? { value.nextDue() }
        func acquire(_ exclusions: [String], for key: String) -> Bool {
            value.acquire(exclusions.map { JobSubject($0) }, for: .job(id(key)))
        }
        @discardableResult
        func finish(_ key: String, again: Timestamp? = nil) -> Timestamp? {
            value.finish(.job(id(key)), again: again)
        }

        /// All that may begin, in their order.
        func begin(at time: Timestamp) -> [String] {
            var begun: [String] = []
            while case .job(let id)? = value.next(now: time) { begun.append(name(id)) }
            return begun
        }

        /// All, each ended before the next begins.
        func drain(at time: Timestamp) -> [String] {
            var begun: [String] = []
            while case .job(let id)? = value.next(now: time) {
                begun.append(name(id))
                value.finish(.job(id))
            }
            return begun
        }
    }

    private func item(
        _ name: String, on subject: String, class jobClass: Int = 0, priority: Int = 10, rank: Int = 0,
        due: Timestamp = .distantPast
    ) -> Scheduler.Item {
        Scheduler.Item(
            job: id(name), on: JobSubject(subject), class: jobClass, priority: priority, rank: rank, due: due)
    }

    private let now = Timestamp(secondsSince1970: 1_800_000_000)
    private func after(_ seconds: Int64) -> Timestamp { now + .seconds(seconds) }

    // MARK: - One item

    @Test("an item that is offered many times runs once")
    func offersMerge() {
        let jobs = Jobs()
        for _ in 1...5 { jobs.offer(item("a", on: "a")) }
        #expect(jobs.begin(at: now) == ["a"])
        #expect(jobs.value.waitingCount(of: 0) == 0 && jobs.value.dueCount(of: 0) == 0 && jobs.value.runningCount == 1)
    }

    @Test(
        "an offer while the item runs has it run again afterwards, unless it said nothing new or came before the work began"
    )
    func offerWhileRunning() {
        let jobs = Jobs()
        jobs.offer(item("a", on: "a"))
        #expect(jobs.begin(at: now) == ["a"])
        jobs.offer(item("a", on: "a"))
        #expect(jobs.begin(at: now) == [])
        #expect(jobs.finish("a") == .distantPast)
        #expect(jobs.begin(at: now) == ["a"])
        jobs.offer(item("a", on: "a"))
        jobs.value.forgetOffers(of: .job(id("a")))
        #expect(jobs.finish("a", again: after(5)) == after(5))
        #expect(jobs.begin(at: after(5)) == ["a"])
        jobs.offer(item("a", on: "a"))
        jobs.value.forgetOffers(of: .job(id("a")))
        #expect(jobs.finish("a") == nil)
        #expect(jobs.value.waitingCount(of: 0) == 0)
    }

    @Test("an item begins when it is due; the earlier due time and the smaller priority number count")
    func due() {
        let jobs = Jobs()
        jobs.offer(item("late", on: "late", due: after(10)))
        jobs.offer(item("soon", on: "soon", due: after(5)))
        jobs.offer(item("late", on: "late", due: after(20)))
        #expect(jobs.status(of: "late") == .waitingForStartTime)
        #expect(jobs.nextDue() == after(5))
        #expect(jobs.begin(at: after(4)) == [])
        jobs.offer(item("late", on: "late", priority: 1, due: after(30)))
        #expect(jobs.begin(at: after(10)) == ["late", "soon"])
        #expect(jobs.nextDue() == nil)
    }

    @Test("an item that waits can be withdrawn, one that runs cannot")
    func withdrawn() {
        let jobs = Jobs([JobClass(limit: 1)])
        for key in ["a", "b", "c"] { jobs.offer(item(key, on: key)) }
        #expect(jobs.begin(at: now) == ["a"])
        #expect(!jobs.withdraw("a") && jobs.withdraw("b") && !jobs.withdraw("b"))
        #expect(!jobs.value.isWaiting(.job(id("b"))) && jobs.value.isWaiting(.job(id("c"))))
        jobs.finish("a")
        #expect(jobs.begin(at: now) == ["c"])
    }

    @Test("when the clock is set back, waiting items move with it and due items stay due")
    func setBack() {
        let jobs = Jobs()
        jobs.offer(item("late", on: "late", due: after(600)))
        jobs.offer(item("soon", on: "soon", due: after(60)))
        jobs.offer(item("due", on: "due"))
        jobs.value.clockWasSet(back: .seconds(86_400))
        #expect(jobs.nextDue() == after(60 - 86_400))
        #expect(jobs.begin(at: after(-86_400)) == ["due"])
        #expect(jobs.begin(at: after(60 - 86_400)) == ["soon"])
        #expect(jobs.begin(at: after(600 - 86_400)) == ["late"])
    }

    // MARK: - Order and limits

    @Test("of the items that may begin, the most urgent begins first, then the one that became due first")
    func order() {
        let jobs = Jobs([JobClass(limit: 1)])
        jobs.offer(item("first", on: "first"))
        jobs.offer(item("second", on: "second"))
        jobs.offer(item("urgent", on: "urgent", priority: 1))
        jobs.offer(item("later", on: "later", priority: 1, due: after(1)))
        #expect(jobs.drain(at: after(1)) == ["urgent", "later", "first", "second"])
    }

    @Test("an item that becomes more urgent queues behind items of the same urgency")
    func hastened() {
        let jobs = Jobs([JobClass(limit: 1)])
        for key in ["a", "b", "c"] { jobs.offer(item(key, on: key)) }
        jobs.offer(item("urgent", on: "urgent", priority: 1))
        jobs.offer(item("c", on: "c", priority: 1))
        #expect(jobs.drain(at: now) == ["urgent", "c", "a", "b"])
    }

    @Test("limits per class and in total hold; a full class does not delay the others")
    func limits() {
        let jobs = Jobs([JobClass(limit: 2), JobClass(limit: 3)], limit: 4)
        for number in 1...4 { jobs.offer(item("a\(number)", on: "a\(number)")) }
        for number in 1...4 { jobs.offer(item("b\(number)", on: "b\(number)", class: 1)) }
        #expect(jobs.begin(at: now) == ["a1", "a2", "b1", "b2"])
        #expect(jobs.status(of: "a3") == .waitingForMaximumJobs && jobs.status(of: "b3") == .waitingForMaximumJobs)
        jobs.finish("a1")
        jobs.offer(item("a4", on: "a4", priority: 1))
        #expect(jobs.status(of: "a3") == .waitingForPriority)
        #expect(jobs.begin(at: now) == ["a4"])
        jobs.value.limit = nil
        #expect(jobs.begin(at: now) == ["b3"])
        jobs.value.setClass(0, JobClass(limit: 3), now: .distantPast)
        #expect(jobs.begin(at: now) == ["a3"])
    }

    @Test("if the limit is above one, the last place is reserved for the preferred class")
    func preferred() {
        let jobs = Jobs([JobClass(limit: 4, isPreferred: true), JobClass(limit: 4)], limit: 2)
        jobs.offer(item("b1", on: "b1", class: 1))
        jobs.offer(item("b2", on: "b2", class: 1))
        #expect(jobs.begin(at: now) == ["b1"])
        jobs.offer(item("a1", on: "a1"))
        #expect(jobs.begin(at: now) == ["a1"])
        jobs.finish("b1")
        #expect(jobs.begin(at: now) == ["b2"])
        jobs.finish("a1")
        jobs.finish("b2")
        jobs.value.limit = 1
        jobs.offer(item("b3", on: "b3", class: 1))
        #expect(jobs.begin(at: now) == ["b3"])
    }

    @Test("outside its class's window an item waits until the window opens, and delays no other item")
    func window() throws {
        let window = try TimeWindow(parsing: "22:00-06:00")
        let jobs = Jobs([JobClass(limit: 4, window: window), JobClass(limit: 4)])
        let noon = Timestamp(secondsSince1970: 20_000 * 86_400 + 12 * 3_600)
        let opening = noon + .seconds(10 * 3_600)
        jobs.offer(item("night", on: "same"))
        jobs.offer(item("day", on: "same", class: 1))
        #expect(jobs.begin(at: noon) == ["day"])
        #expect(jobs.status(of: "night") == .waitingForStartTime && jobs.nextDue() == opening)
        jobs.finish("day")
        #expect(jobs.begin(at: opening) == ["night"])
    }

    @Test("items that wait for a window follow another one, and wait no more without one")
    func changedWindow() throws {
        let jobs = Jobs([JobClass(limit: 4, window: try TimeWindow(parsing: "22:00-06:00"))])
        let noon = Timestamp(secondsSince1970: 20_000 * 86_400 + 12 * 3_600)
        jobs.offer(item("night", on: "night"))
        jobs.offer(item("later", on: "later", due: noon + .seconds(7_200)))
        #expect(jobs.begin(at: noon) == [])
        jobs.value.setClass(0, JobClass(limit: 4, window: try TimeWindow(parsing: "13:00-14:00")), now: noon)
        #expect(jobs.begin(at: noon) == [])
        #expect(jobs.status(of: "night") == .waitingForStartTime && jobs.nextDue() == noon + .seconds(3_600))
        jobs.value.setClass(0, JobClass(limit: 4), now: noon)
        #expect(jobs.begin(at: noon) == ["night"])
        #expect(jobs.status(of: "later") == .waitingForStartTime && jobs.nextDue() == noon + .seconds(7_200))
    }

    // MARK: - Exclusion

    @Test("of several items with one exclusion key one runs; the others wait in order")
    func exclusion() {
        let jobs = Jobs()
        for key in ["a", "b", "c"] { jobs.offer(item(key, on: "x")) }
        jobs.offer(item("other", on: "y"))
        #expect(jobs.begin(at: now) == ["a", "other"])
        #expect(
            jobs.status(of: "c") == .waitingForClientResource
                && jobs.value.holder(of: JobSubject("x")) == .job(id("a")))
        jobs.finish("a")
        #expect(jobs.status(of: "c") == .waitingForClientResource && jobs.value.holder(of: JobSubject("x")) == nil)
        jobs.withdraw("b")
        #expect(jobs.begin(at: now) == ["c"])
    }

    @Test(
        "the smallest rank begins first on its exclusion key, in the best place of them, and other keys lose nothing by it"
    )
    func ranks() {
        let jobs = Jobs([JobClass(limit: 1)])
        jobs.offer(item("daily x", on: "x", rank: 4))
        jobs.offer(item("daily y", on: "y", rank: 4))
        jobs.offer(item("weekly x", on: "x", rank: 3))
        jobs.offer(item("weekly y", on: "y", rank: 3))
        #expect(jobs.drain(at: now) == ["weekly x", "weekly y", "daily x", "daily y"])
    }

    @Test(
        "while an item of a smaller rank waits for an exclusion key, no item of a larger rank of any class begins on it"
    )
    func rankOfAnotherClass() {
        let jobs = Jobs([JobClass(limit: 1), JobClass(limit: 1)])
        jobs.offer(item("a", on: "a"))
        #expect(jobs.begin(at: now) == ["a"])
        jobs.offer(item("backup", on: "x", class: 1, rank: 1))
        jobs.offer(item("request", on: "x"))
        #expect(jobs.begin(at: now) == [])
        #expect(jobs.status(of: "backup") == .waitingForClientResource)
        jobs.finish("a")
        #expect(jobs.begin(at: now) == ["request"])
        jobs.finish("request")
        #expect(jobs.begin(at: now) == ["backup"])
    }

    @Test("a running item takes further exclusion keys, all or none, and waits for keys that are taken")
    func acquired() {
        let jobs = Jobs()
        jobs.offer(item("a", on: "entry 1"))
        jobs.offer(item("b", on: "entry 2"))
        #expect(jobs.begin(at: now) == ["a", "b"])
        #expect(jobs.acquire(["home", "entry 1"], for: "a"))
        #expect(jobs.acquire(["home"], for: "a"))
        #expect(!jobs.acquire(["free", "home"], for: "b"))
        #expect(jobs.value.holder(of: JobSubject("free")) == nil)
        jobs.value.finish(.job(id("b")), waitingFor: [JobSubject("free"), JobSubject("home")])
        #expect(jobs.begin(at: now) == [] && jobs.status(of: "b") == .waitingForClientResource)
        jobs.offer(item("c", on: "entry 2"))
        #expect(jobs.begin(at: now) == ["c"])
        jobs.finish("a")
        #expect(jobs.begin(at: now) == [] && jobs.status(of: "b") == .waitingForClientResource)
        jobs.finish("c")
        #expect(jobs.begin(at: now) == ["b"])
        #expect(
            jobs.value.holder(of: JobSubject("home")) == .job(id("b"))
                && jobs.value.holder(of: JobSubject("free")) == .job(id("b"))
                && jobs.value.holder(of: JobSubject("entry 2")) == .job(id("b")))
        jobs.finish("b")
        #expect(["home", "free", "entry 2"].allSatisfy { jobs.value.holder(of: JobSubject($0)) == nil })
    }

    // MARK: - Random walk

    /// `PROV_RANDOM_STEPS=1000000 swift test -c release` for a long one.
    @Test(
        "for random events in random order, the scheduler agrees with a model that examines all items each time",
        arguments: [1, 2, 3])
    func randomWalk(seed: UInt64) throws {
        let steps = ProcessInfo.processInfo.environment["PROV_RANDOM_STEPS"].flatMap(Int.init) ?? 12_000
        var walk = SchedulerWalk(seed: seed)
        for step in 1...steps { try walk.step(step) }
        try walk.drain()
    }
}

/// Jobs of the tests have names of at most eight letters, which are their numbers.
private func id(_ name: String) -> JobID { JobID(name.utf8.reduce(0) { $0 << 8 | UInt64($1) }) }

private func name(_ id: JobID) -> String {
    String(decoding: withUnsafeBytes(of: id.number.bigEndian) { $0.drop { $0 == 0 } }, as: UTF8.self)
}
