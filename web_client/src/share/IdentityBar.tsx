/**
 * The time-out at the start: both sides read two identifiers aloud and tick them. [IC1]-[IC4] (W23)
 *
 * The bar stays until both have; it names who is missing and stands in nobody's way. What does not agree closes the
 * record on every screen.
 */
import { Button, Checkbox, Modal, TextInput } from "@mantine/core";
import { UserRoundCheck } from "lucide-react";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { openingOf } from "../desk/contextGate";
import type { AnyCommand, Consult, IdentityPart } from "../protocol";
import { ageOn } from "../record/banner";
import styles from "./share.module.css";
import { nameOf } from "./sharing";

export interface IdentityBarProps {
  consult: Consult;
  me: string;
  size?: "desk" | "wall";
  /** Absent where nobody can act. */
  onCommand?: (command: AnyCommand) => Promise<void>;
}

type Step = "tick" | "wrong" | "skip";
const MAY = new Set(["doctor", "nurse", "guest"]);

export function IdentityBar({ consult, me, size = "desk", onCommand }: IdentityBarProps) {
  const { t } = useTranslation();
  const [step, setStep] = useState<Step | null>(null);
  const check = consult.identity_check;
  const opening = openingOf(consult);
  useEffect(() => {
    // A dialog about one patient never stays open over the next.
    void opening;
    setStep(null);
  }, [opening]);
  if (check === null || consult.context === null || (check.hub !== null && check.partner !== null)) return null;
  const isHub = consult.participants[me]?.hub ?? false;
  const mine = isHub ? check.hub : check.partner;
  const canAct = onCommand !== undefined && MAY.has(consult.participants[me]?.role ?? "");
  const missing = (["hub", "partner"] as const).filter((side) => check[side] === null);
  return (
    <section
      className={styles.identity}
      data-size={size}
      data-testid="identity-bar"
      aria-label={t("share.identity.label")}
    >
      <UserRoundCheck aria-hidden="true" className={styles.identityIcon} />
      <span className={styles.identityWords} role="status" data-missing={missing.join(" ")}>
        {t("share.identity.missing", {
          sides: missing.map((side) => t(`share.identity.${side}`)).join(t("common.listSeparator")),
        })}
        {check.skipped !== null &&
          ` ${t("share.identity.skipped", { name: nameOf(consult, check.skipped.by), reason: check.skipped.reason })}`}
      </span>
      {canAct && mine === null && (
        <Button className={styles.answer} size="compact-sm" onClick={() => setStep("tick")} data-testid="identity-open">
          {t("share.identity.open")}
        </Button>
      )}
      {canAct && (
        <Button
          className={styles.answer}
          size="compact-sm"
          variant="default"
          color="red"
          onClick={() => setStep("wrong")}
          data-testid="identity-wrong"
        >
          {t("share.identity.wrong")}
        </Button>
      )}
      {canAct && check.skipped === null && (
        <Button
          className={styles.answer}
          size="compact-sm"
          variant="subtle"
          onClick={() => setStep("skip")}
          data-testid="identity-skip"
        >
          {t("share.identity.skip")}
        </Button>
      )}
      {onCommand !== undefined && (
        <Modal
          closeButtonProps={{ "aria-label": t("desk.device.dismiss") }}
          opened={step !== null}
          onClose={() => setStep(null)}
          title={t(`share.identity.title.${step ?? "tick"}`)}
          centered
        >
          {step === "tick" && (
            <Tick
              consult={consult}
              onDone={(heard) => {
                setStep(null);
                void onCommand({ type: "tick_identity", context_version: check.context_version, heard: [...heard] });
              }}
            />
          )}
          {(step === "wrong" || step === "skip") && (
            <Why
              step={step}
              onDone={(reason) => {
                setStep(null);
                const type = step === "wrong" ? "report_wrong_patient" : "skip_identity_check";
                void onCommand({ type, context_version: check.context_version, reason });
              }}
            />
          )}
        </Modal>
      )}
    </section>
  );
}

function Tick({ consult, onDone }: { consult: Consult; onDone: (heard: readonly IdentityPart[]) => void }) {
  const { t } = useTranslation();
  const [heard, setHeard] = useState<readonly IdentityPart[]>([]);
  const patient = consult.context?.patient;
  if (patient === undefined) return null;
  const [first, second] = patient.identifiers;
  const age = ageOn(patient.birth_date, new Date());
  const years = age === null ? "" : ` · ${t(`record.banner.${age.unit}`, { count: age.count })}`;
  const parts: readonly [IdentityPart, string][] = [
    ["name", patient.name_latin === "" ? patient.name : `${patient.name} ${patient.name_latin}`],
    ["birth_date", `${t("record.banner.born")} ${patient.birth_date}${years}`],
    ["first_identifier", `${first.label} ${first.value}`],
    ["second_identifier", `${second.label} ${second.value}`],
  ];
  return (
    <>
      <p>{t("share.identity.intro")}</p>
      <div className={styles.checks}>
        {parts.map(([part, words]) => (
          <Checkbox
            key={part}
            label={words}
            checked={heard.includes(part)}
            onChange={({ currentTarget: { checked } }) =>
              setHeard((before) => (checked ? [...before, part] : before.filter((one) => one !== part)))
            }
            data-testid={`identity-${part}`}
          />
        ))}
      </div>
      <Button fullWidth disabled={heard.length < 2} onClick={() => onDone(heard)} data-testid="identity-confirm">
        {t("share.identity.confirm")}
      </Button>
    </>
  );
}

function Why({ step, onDone }: { step: "wrong" | "skip"; onDone: (reason: string) => void }) {
  const { t } = useTranslation();
  const [reason, setReason] = useState("");
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        onDone(reason.trim());
      }}
    >
      <p>{t(`share.identity.text.${step}`)}</p>
      <TextInput
        maxLength={200}
        label={t("share.why")}
        value={reason}
        onChange={(event) => setReason(event.currentTarget.value)}
        data-testid="identity-reason"
        data-autofocus
      />
      <Button
        mt="md"
        fullWidth
        type="submit"
        color={step === "wrong" ? "red" : "blue"}
        disabled={reason.trim().length < 3}
        data-testid="identity-reason-send"
      >
        {t(`share.identity.send.${step}`)}
      </Button>
    </form>
  );
}
