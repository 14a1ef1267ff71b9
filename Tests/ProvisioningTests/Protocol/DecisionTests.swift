import LDAP
import JobCore
import Provisioning
import Testing

@Suite struct DecisionTests {
    /// Noon of 21 November 2026, UTC.
    private let now = Timestamp(secondsSince1970: 1_795_262_400)
    private var policy: DecisionPolicy { DecisionPolicy(scope: Fixture.scope, calendar: .utc) }

    @Test(
        "a request without a date, with date 0 or with today's is claimed at once", arguments: [nil, "0", "20261121"])
    func dueNow(date: String?) throws {
        let status = try Fixture.status(mode: "add", date: date)
        #expect(policy.decide(status, now: now) == .claim(.add))
    }

    @Test("F1: a request for the future waits until its day begins")
    func future() throws {
        let status = try Fixture.status(mode: "modify", date: "20261122")
        let midnight = now + .seconds(12 * 3600)
        #expect(policy.decide(status, now: now) == .wait(until: midnight))
        #expect(policy.decide(status, now: midnight) == .claim(.modify))
    }

    @Test("F1: a date in the past runs, unless the settings say that overdue requests are skipped")
    func past() throws {
        let status = try Fixture.status(mode: "add", date: "20261120")
        #expect(policy.decide(status, now: now) == .claim(.add))
        var skipping = policy
        skipping.runsOverdue = false
        #expect(skipping.decide(status, now: now) == .leave(.overdue("20261120")))
        let today = try Fixture.status(mode: "add", date: "20261121")
        #expect(skipping.decide(today, now: now) == .claim(.add))
    }

    @Test("F1: a request that has waited for its turn past midnight is not overdue")
    func waitedPastMidnight() throws {
        var skipping = policy
        skipping.runsOverdue = false
        let status = try Fixture.status(mode: "delete", date: "20261121", active: "FALSE")
        let tomorrow = now + .seconds(13 * 3600)
        #expect(skipping.decide(status, now: tomorrow, start: now) == .claim(.delete))
        #expect(skipping.decide(status, now: tomorrow, start: tomorrow) == .leave(.overdue("20261121")))
    }

    @Test("an operator's request ignores the date")
    func ignoringDate() throws {
        let status = try Fixture.status(mode: "add", date: "20991231")
        #expect(policy.decide(status, now: now, ignoringDate: true) == .claim(.add))
    }

    @Test(
        "a date that names no day is refused",
        arguments: ["20261301", "20260230", "2026-11-21", "-1", "1", "20261121T00"])
    func badDate(date: String) throws {
        guard case .refuse(let failure) = policy.decide(try Fixture.status(mode: "add", date: date), now: now) else {
            Issue.record("not refused")
            return
        }
        #expect(failure.code == .undefinedError)
        #expect(failure.reason.contains(date))
    }

    @Test(
        "F2: adding is our own unfinished claim and is resumed; adding with a ReturnValue has failed and is left")
    func claimed() throws {
        #expect(policy.decide(try Fixture.status(mode: "adding"), now: now) == .resume(.add))
        #expect(policy.decide(try Fixture.status(mode: "Deleting", active: "FALSE"), now: now) == .resume(.delete))
        let failed = try Fixture.status(mode: "adding", returnValue: "5")
        #expect(policy.decide(failed, now: now) == .leave(.failed(returnValue: "5")))
    }

    @Test("accounts that are done, or ask for nothing, are left alone")
    func done() throws {
        let done = try Fixture.status(mode: "added", state: "20261121T120000Z")
        #expect(policy.decide(done, now: now) == .leave(.done))
        let idle = try Fixture.status(mode: "add", state: "20261121T120000Z")
        #expect(policy.decide(idle, now: now) == .leave(.nothingAsked))
    }

    @Test(
        "a delete is refused unless the account is seen to be inactive; the setting switches it off",
        arguments: [nil, "TRUE", "no"], ["delete", "deleting"])
    func liveAccount(active: String?, mode: String) throws {
        let active = try Fixture.status(mode: mode, active: active)
        guard case .refuse(let failure) = policy.decide(active, now: now) else {
            Issue.record("not refused")
            return
        }
        #expect(failure.reason.contains("sstIsActive"))
        #expect(failure.hint.hasPrefix("if it is not to be deleted, write sstProvisioningMode: modify"))
        #expect(failure.hint.contains("prov-backup-rsnapshot check") == (active.isActive == nil))
        #expect(policy.decide(try Fixture.status(mode: "delete", active: "FALSE"), now: now) == .claim(.delete))
        var lenient = policy
        lenient.deleteNeedsInactive = false
        #expect(lenient.decide(active, now: now) == (mode == "delete" ? .claim(.delete) : .resume(.delete)))
    }

    @Test("accounts of another host, or of none, are left alone; names are compared without regard to case")
    func hosts() throws {
        var ours = policy
        ours.scope.hosts = ["kvm-0036", "kvm-0036.example.org"]
        let here = try Fixture.status(mode: "add", hosts: ["KVM-0036.example.org"])
        #expect(ours.decide(here, now: now) == .claim(.add))
        let there = try Fixture.status(mode: "add", hosts: ["kvm-0037"])
        #expect(ours.decide(there, now: now) == .leave(.otherHost(["kvm-0037"])))
        #expect(ours.decide(try Fixture.status(mode: "add"), now: now) == .leave(.noHost))
    }

    @Test("with a claim attribute only the holder works on an account, also when there is another request since")
    func claimHolder() throws {
        var sharing = DecisionPolicy(scope: Fixture.scope, claimHolder: "one", calendar: .utc)
        sharing.scope.names.claim = "provisioningClaim"
        let ours = try Fixture.status(mode: "adding", claim: "one 17", names: sharing.names)
        #expect(sharing.decide(ours, now: now) == .resume(.add))
        let theirs = try Fixture.status(mode: "adding", claim: "oneself 17", names: sharing.names)
        #expect(sharing.decide(theirs, now: now) == .leave(.claimed(by: "oneself 17")))
        for (mode, active) in [("add", "FALSE"), ("delete", "FALSE"), ("delete", "TRUE"), ("deleting", "TRUE")] {
            let asked = try Fixture.status(mode: mode, active: active, claim: "oneself 17", names: sharing.names)
            #expect(sharing.decide(asked, now: now) == .leave(.claimed(by: "oneself 17")), "\(mode) \(active)")
        }
        let again = try Fixture.status(mode: "add", claim: "one 17", names: sharing.names)
        #expect(sharing.decide(again, now: now) == .claim(.add))
    }

    @Test("a day begins at midnight of the calendar's zone")
    func zone() throws {
        let zurich = DecisionPolicy(scope: Fixture.scope, calendar: .fixed(hoursEastOfUTC: 1))
        let status = try Fixture.status(mode: "add", date: "20261122")
        #expect(zurich.decide(status, now: now) == .wait(until: now + .seconds(11 * 3600)))
    }

    @Test("an account that names hosts of several daemons is left alone, unless they have a claim attribute")
    func sharedHosts() throws {
        var policy = policy
        policy.scope.hosts = ["one", "ONE.example.org"]
        func decide(_ hosts: String...) throws -> Decision {
            policy.decide(try Fixture.status(mode: "add", hosts: hosts, names: policy.names), now: now)
        }
        #expect(try decide("One", "one.example.org") == .claim(.add))
        #expect(try decide("one", "two") == .leave(.sharedHosts(["one", "two"])))
        #expect(try decide("two", "three") == .leave(.otherHost(["two", "three"])))
        policy.scope.names.claim = "provisioningClaim"
        #expect(try decide("one", "two") == .claim(.add))
    }

    @Test("blanks and capitals are ignored as by the LDAP server")
    func caseIgnoreMatch() throws {
        var policy = policy
        let request = try Fixture.status(mode: " Modify ", state: " 0", date: "20261122 ", hosts: ["KVM  0037 "])
        #expect(request.mode == ProvisioningMode(.modify, .requested) && request.phase == .requested)
        #expect(policy.decide(request, now: now) == .wait(until: now + .seconds(12 * 3600)))
        policy.scope.hosts = ["kvm 0037"]
        #expect(policy.decide(request, now: now) == .wait(until: now + .seconds(12 * 3600)))
    }

    @Test("the reason why an entry takes no part contains the value as it is")
    func absence() throws {
        let names = AttributeNames()
        func absence(_ mode: String?, _ state: String?) throws -> (reason: String, hint: String) {
            let entry = try Fixture.entry(mode: mode, state: state)
            #expect(AccountStatus(entry, names: names) == nil)
            return AccountStatus.absence(from: entry, names: names)
        }
        #expect(try absence("ad d", "0").reason.contains("\"ad d\", which is none of add, adding, added"))
        for (mode, state) in [(nil, "0"), ("added", nil), (nil, nil)] as [(String?, String?)] {
            let absence = try absence(mode, state)
            #expect(absence.reason.contains("sstProvisioningMode") == (mode == nil))
            #expect(absence.reason.contains("sstProvisioningState") == (state == nil))
            #expect(absence.hint.contains("prov-backup-rsnapshot check"))
            #expect(absence.hint.contains("sstProvisioningMode: add") == (mode == nil && state == nil))
        }
        var hidden = try Fixture.entry(mode: "add")
        hidden["entryCSN"] = []
        let absence = AccountStatus.absence(from: hidden, names: names)
        #expect(absence.reason.contains("does not show its entryCSN") && absence.hint.contains("access rules"))
    }

    @Test("a date counts only by a clock that can be trusted, and a request without a date needs none")
    func doubtedClock() throws {
        func decide(date: String, ignoringDate: Bool = false) throws -> Decision {
            policy.decide(
                try Fixture.status(mode: "delete", date: date, active: "FALSE"), now: now, ignoringDate: ignoringDate,
                isClockDoubted: { true })
        }
        #expect(try decide(date: "20261120") == .waitForClock)
        #expect(try decide(date: "20261122") == .wait(until: now + .seconds(12 * 3600)))
        #expect(try decide(date: "0") == .claim(.delete))
        #expect(try decide(date: "20261120", ignoringDate: true) == .claim(.delete))
    }
}
