import LDAP
import Glibc
import Testing

@testable import provisioning_bench

@Suite struct ValueTests {
    @Test("a percentile is the smallest sample that so many do not exceed")
    func percentiles() {
        let distribution = Distribution((1...100).reversed().map(Double.init))
        #expect(distribution.median == 50)
        #expect(distribution.percentile(0.99) == 99)
        #expect(distribution.percentile(0.999) == 100)
        #expect(distribution.percentile(0) == 1)
        #expect(Distribution([7]).percentile(0.99) == 7)
        #expect(Distribution([]).median == nil)
    }

    @Test(
        "a CSN is a time to the microsecond, leap days included",
        arguments: [
            ("19700101000000.000000Z#000000#000#000000", 0.0),
            ("20240229120000.500000Z#000001#000#000000", 1_709_208_000.5),
            ("20261231235959.000001Z#000000#001#000000", 1_798_761_599.000_001),
        ])
    func csn(_ text: String, _ seconds: Double) { #expect(CSN(text)?.seconds == seconds) }

    @Test("what is no CSN is none", arguments: ["", "20260101120000Z", "2026010112000x.000000Z#0#0#0", "nonsense#"])
    func noCSN(_ text: String) { #expect(CSN(text) == nil) }

    @Test("jobs a second are counted from the first end to the last")
    func rate() {
        #expect(FinishTimes(times: [12, 10, 11], unfinished: 0).rate == 1)
        #expect(FinishTimes(times: [10], unfinished: 0).rate == nil)
        #expect(FinishTimes(times: [], unfinished: 3).rate == nil)
    }

    @Test("an account's LDIF is the one of ldif create with its own number, done or wishing")
    func template() throws {
        let template = try AccountTemplate(homes: "/homes")
        for mode in AccountTemplate.Mode.allCases {
            var parser = LDIFParser(source: "template")
            parser.append(template.text(1_234_567, mode).utf8)
            parser.finish()
            let record = try #require(try parser.next())
            #expect(try parser.next() == nil)
            #expect("\(record.dn)" == "uid=1234567,\(Stage.accountsDN)")
            guard case .content(let attributes) = record.change else {
                Issue.record("no content")
                return
            }
            let entry = Entry(dn: record.dn, attributes: attributes)
            #expect(entry.text("uidNumber") == "1234567")
            #expect(entry.text("homeDirectory") == "/homes/1234567")
            #expect(entry.text("sstProvisioningMode") == mode.rawValue)
            #expect(entry.text("sstProvisioningState") == (mode == .modified ? "20260101T000000Z" : "0"))
            #expect(entry.text("sstProvisioningReturnValue") == (mode == .modified ? "0" : nil))
        }
    }

    @Test("a home's configuration is the pattern's with another number")
    func pattern() {
        let pattern = HomePattern(configuration: "backup /homes/1000000/x\tlog 1000000\n", of: 1_000_000)
        #expect(pattern.configuration(of: 1_000_007) == "backup /homes/1000007/x\tlog 1000007\n")
    }

    @Test("the files of /proc are read by name, and both kinds of switches count")
    func processFacts() throws {
        let status = "Name:\tx\nVmHWM:\t  2048 kB\nvoluntary_ctxt_switches:\t3\nnonvoluntary_ctxt_switches:\t4\n"
        #expect(ProcessFacts.number("VmHWM", in: status) == 2_048)
        #expect(ProcessFacts.number("VmRSS", in: status) == 0)
        #expect(ProcessFacts.switches(in: status) == 7)
        let own = try ProcessFacts(of: getpid())
        #expect(own.resident > 0)
        #expect(own.peak >= own.resident)
        #expect(own.threads > 0)
        #expect(own.processorTime > 0)
    }

    @Test("both plans measure what the figures need")
    func plans() {
        for plan in [BenchPlan.full, .quick] {
            #expect(plan.sizes == plan.sizes.sorted())
            #expect(plan.sizes.contains(10_000) && plan.sizes.contains(1_000_000))
            #expect(plan.sizes.contains(plan.idleSize))
            #expect(plan.scoutJobs <= plan.jobs && plan.shellJobs <= plan.jobs && plan.scriptJobs <= plan.jobs)
            #expect(plan.pending == 100_000)
            for task in [DaemonSetup.Task.modify, .empty, .add] {
                #expect(plan.setups.contains { $0.task == task })
            }
            #expect(plan.setups.contains { $0.detection == .poll })
        }
        #expect(BenchPlan.full.latencyRequests == 2_000)
        #expect(BenchPlan.full.pendingTime == nil)
        #expect(BenchPlan.quick.limit < .seconds(300))
        #expect(Set(DaemonSetup.grid.filter { $0.task == .modify }.map(\.slots)) == [1, 2, 4, 8, 16])
    }
}
